"""How many requests a second `trainyard serve` answers, and how soon, beside `mlflow models serve`, in the same run.

    python benchmarks/serving.py              all; writes its part of benchmarks/RESULTS.md (after `make repro`)
    python benchmarks/serving.py --minutes 1  a shorter long run

A client of its own process keeps connections busy, one request at a time each, with one row of the test split. Server
and client share the machine. Latencies are those that the client sees.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import numpy as np
import results

from trainyard import kinds, params
from trainyard.params import Serve
from trainyard.tracking import raw

ROOT = Path(__file__).parents[1]
MODELS = {"mlp": "a row of 30 numbers", "cnn": "a PNG of 8x8 pixels in base64", "mobilenet": "a JPEG in base64"}
CONNECTIONS, CROWD = 16, 64
"""At once, and where there are too many."""
WAITING = Serve().waiting
AWAY = 503
LOST = 0
"""Stands for the status of an answer that did not come."""
SECONDS = 10.0

# === The client ===


class Connection(asyncio.Protocol):
    """Asks the same question again and again, at once, whatever the answer is."""

    def __init__(self, question: bytes, end: float) -> None:
        self.question, self.end = question, end
        self.answers: list[tuple[float, int]] = []
        self.over = asyncio.get_running_loop().create_future()
        self.buffer = b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """The first question."""
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        """The next question, until time is up."""
        if time.perf_counter() > self.end:
            self.transport.close()
        elif not self.transport.is_closing():
            self.asked = time.perf_counter()
            self.transport.write(self.question)

    def data_received(self, data: bytes) -> None:
        """A piece of an answer."""
        self.buffer += data
        head, mark, body = self.buffer.partition(b"\r\n\r\n")
        place = head.lower().find(b"content-length: ")
        if not mark or len(body) < int(head[place + 16 :].partition(b"\r\n")[0]):
            return
        self.buffer = b""
        status = int(head[9:12])
        self.answers.append((time.perf_counter() - self.asked, status))
        self.ask()

    def connection_lost(self, error: Exception | None) -> None:
        """The end, or an answer that is lost."""
        if time.perf_counter() < self.end:
            self.answers.append((time.perf_counter() - self.asked, LOST))
        if not self.over.done():
            self.over.set_result(self.answers)


async def load(port: int, question: bytes, connections: int, seconds: float) -> list[tuple[float, int]]:
    """Latency and status of every answer."""
    loop, end = asyncio.get_running_loop(), time.perf_counter() + seconds
    made = [
        await loop.create_connection(lambda: Connection(question, end), "127.0.0.1", port) for _ in range(connections)
    ]
    await asyncio.wait([protocol.over for _, protocol in made], timeout=seconds + 60)
    return [answer for _, protocol in made for answer in protocol.answers]


def asked(port: int, question: bytes, connections: int, seconds: float = SECONDS) -> dict[str, float]:
    """What a client of its own process sees."""
    given = json.dumps([port, question.decode(), connections, seconds])
    command = [sys.executable, __file__, "--client"]
    told = subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout  # noqa: S603  # ours
    return json.loads(told)


def client() -> None:
    """Read what to ask from stdin, ask, and print figures."""
    import uvloop

    port, question, connections, seconds = json.loads(sys.stdin.read())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        answers = runner.run(load(port, question.encode(), connections, seconds))
    took, status = np.array([one for one, _ in answers]), np.array([one for _, one in answers])
    good, away = took[status == 200] * 1000, took[status == AWAY] * 1000
    print(
        json.dumps(
            {
                "rate": len(good) / seconds,
                "p50": float(np.quantile(good, 0.5)) if len(good) else None,
                "p95": float(np.quantile(good, 0.95)) if len(good) else None,
                "p99": float(np.quantile(good, 0.99)) if len(good) else None,
                "away": len(away),
                "away_p99": float(np.quantile(away, 0.99)) if len(away) else 0.0,
                "away_most": float(away.max()) if len(away) else 0.0,
                "errors": int((~np.isin(status, [200, AWAY])).sum()),
            }
        )
    )


# === The servers ===


class Server:
    """A command that listens on a port of its own, with all processes that it starts."""

    def __init__(self, command: Callable[[int], list[str]], ready: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "TF_CPP_MIN_LOG_LEVEL": "2"}
        began = time.perf_counter()
        self.process = subprocess.Popen(command(self.port), cwd=ROOT, env=environment, start_new_session=True, **quiet)  # noqa: S603  # ours
        while b" 200 " not in self.get(ready):
            if self.process.poll() is not None:
                sys.exit(f"{' '.join(command(self.port))} ended by itself")
            time.sleep(0.1)
        self.started = time.perf_counter() - began

    def get(self, path: str) -> bytes:
        """The first line of an answer; nothing where nobody answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as asked:
                asked.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
                return asked.recv(100).split(b"\r\n")[0] + b" "
        except OSError:
            return b""

    def memory(self) -> float:
        """MiB that its processes have for themselves, or share among them."""
        import psutil

        top = psutil.Process(self.process.pid)
        return sum(one.memory_full_info().pss for one in [top, *top.children(recursive=True)]) / 2**20

    def end(self) -> None:
        """With all that it has started."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
        time.sleep(1)


def ours(*names: str) -> Server:
    """`trainyard serve`."""
    program = [sys.executable, "-m", "trainyard.cli", "serve", *names, "--port"]
    return Server(lambda port: [*program, str(port)], "/ready")


def theirs(name: str) -> Server:
    """`mlflow models serve`, of the same champion."""
    from trainyard import tracking

    program = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "--model-uri"]
    os.environ.setdefault("MLFLOW_TRACKING_URI", tracking.uri())
    return Server(lambda port: [*program, f"models:/{name}@champion", "--port", str(port)], "/ping")


def questions(name: str) -> tuple[bytes, bytes]:
    """A request about the first test row, for us and for MLflow."""
    loaded = params.load()
    data = kinds.open_prepared(loaded.model(name).dataset, loaded.dataset(loaded.model(name).dataset))
    row = raw.reader(data.spec, data.facts)(data.test.rows.index[:1]).to_dict("records")[0]
    row = {column: b64encode(value).decode() if isinstance(value, bytes) else value for column, value in row.items()}

    def post(path: str, told: dict) -> bytes:
        body = json.dumps(told)
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()

    return post(f"/models/{name}/answers", {"rows": [row]}), post("/invocations", {"dataframe_records": [row]})


# === What is measured ===


def under_load(server: Server, question: bytes) -> tuple[dict[str, float], float, float]:
    """What a server does under load, its memory, and what its start took; it is ended."""
    try:
        asked(server.port, question, CONNECTIONS, 3)
        return asked(server.port, question, CONNECTIONS), server.memory(), server.started
    finally:
        server.end()


def side_by_side(name: str) -> str:
    """A row of the table: the same question to both servers, in turn."""
    mine, other = questions(name)
    found, memory, started = under_load(ours(name), mine)
    stock, stock_memory, stock_started = under_load(theirs(name), other)
    print(name, found, stock, flush=True)
    return (
        f"| `{name}`, {MODELS[name]} | {found['rate']:,.0f}/s, {found['p50']:.1f} and {found['p95']:.1f} ms | "
        f"{stock['rate']:,.1f}/s, {stock['p50']:,.0f} and {stock['p95']:,.0f} ms | "
        f"{found['rate'] / stock['rate']:.1f} | "
        f"{memory:,.0f} and {stock_memory:,.0f} MiB | {started:.0f} and {stock_started:.0f} s |\n"
    )


def crowded() -> str:
    """What happens where four times as many ask as are taken in."""
    question, _ = questions("mlp")
    server = ours("mlp")
    try:
        asked(server.port, question, CONNECTIONS, 3)
        usual, full = asked(server.port, question, CONNECTIONS), asked(server.port, question, WAITING)
        many = asked(server.port, question, CROWD)
    finally:
        server.end()
    print("crowd", usual, full, many, flush=True)
    return (
        f"{CROWD} connections that ask again at once, where {WAITING} requests may wait: "
        f"{many['away']:,} were sent away with 503, {many['errors']} lost; 99 of 100 of those sent away within "
        f"{many['away_p99']:.0f} ms and all within {many['away_most']:.0f} ms; those taken in had a p95 of "
        f"{many['p95']:.1f} ms, {many['p95'] / full['p95']:.2f} times that of {WAITING} connections, of which none is "
        f"sent away, and {many['p95'] / usual['p95']:.2f} times that of {CONNECTIONS} "
        f"({many['rate']:,.0f}, {full['rate']:,.0f} and {usual['rate']:,.0f} answers a second).\n"
    )


def long_run(minutes: float) -> str:
    """Errors, and how memory grows."""
    question, _ = questions("mlp")
    server = ours("mlp")
    try:
        asked(server.port, question, CONNECTIONS, 30)
        before, found = server.memory(), {}
        asking = threading.Thread(
            target=lambda: found.update(asked(server.port, question, CONNECTIONS, 60 * minutes)), daemon=True
        )
        asking.start()
        while asking.is_alive():
            asking.join(30)
            print(f"{server.memory():,.1f} MiB", flush=True)
        after = server.memory()
    finally:
        server.end()
    print("long", found, flush=True)
    return (
        f"{minutes:g} minutes of {CONNECTIONS} connections: {found['rate'] * 60 * minutes:,.0f} answers, "
        f"{found['errors'] + found['away']} errors, p95 {found['p95']:.1f} ms and p99 {found['p99']:.1f} ms; memory "
        f"{before:,.0f} MiB after the first half minute, {after:,.0f} at the end ({after / before - 1:+.1%}).\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="of the long run (%(default)g)")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=MODELS)
    parser.add_argument("--client", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.client:
        client()
        sys.exit()
    told = (
        "Requests a second, and the median and the 95th of 100 latencies, of one row a request over "
        f"{CONNECTIONS} connections; server and client share two cores.\n\n"
        "| model and request | `trainyard serve` | `mlflow models serve` | times | memory | from start to ready |\n"
        "|---|---|---|---|---|---|\n"
    )
    told += "".join(side_by_side(name) for name in given.models)
    told += "\n" + crowded() + ("\n" + long_run(given.minutes) if given.minutes else "")
    results.write("Serving", told)
