"""Connections of clients that are slow, greedy or odd, to the server's own protocol before an application of a line."""

import asyncio
import contextlib
import json
import socket
import threading
import time

import pytest
import uvicorn
import uvloop

from trainyard.params import Serve
from trainyard.serving import server

PLAIN = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Running:
    """The protocol before an application that tells the body back, or `large` bytes, after `pause` seconds."""

    def __init__(self):
        self.large, self.pause, self.seen = 0, 0.0, []
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**14)
        self.port = self.listener.getsockname()[1]
        config = uvicorn.Config(
            self.answer,
            http=server.Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            timeout_keep_alive=1,
            interface="asgi3",
        )
        self.server = server.Server(config, "ready")
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def run(self):
        """In the loop that `serve` takes."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self.server.serve([self.listener]))

    async def answer(self, scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        self.seen.append((scope["path"], body))
        await asyncio.sleep(self.pause)
        told = b"x" * self.large or b"told " + body
        headers = [(b"content-length", str(len(told)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": told})

    def client(self, source="127.0.0.1"):
        one = socket.socket()
        one.bind((source, 0))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
        one.settimeout(10)
        one.connect(("127.0.0.1", self.port))
        return one

    def gone(self, seconds):
        """Whether no connection is left after so long."""
        deadline = time.monotonic() + seconds
        while self.server.server_state.connections and time.monotonic() < deadline:
            time.sleep(0.02)
        return not self.server.server_state.connections


@pytest.fixture
def running(monkeypatch):
    monkeypatch.setattr(server, "SLOW", 0.5)
    one = Running()
    yield one
    one.server.should_exit = True
    one.thread.join(20)


def whole(client):
    """All that comes until the end."""
    found = b""
    while True:
        try:
            part = client.recv(2**16)
        except ConnectionError:
            return found
        if not part:
            return found
        found += part


def answered(client):
    """Read to the end of an answer."""
    found = b""
    while not found.endswith(b"told "):
        part = client.recv(2**16)
        assert part, found
        found += part


# === Who does not read ===


@pytest.mark.parametrize("head", [PLAIN, PLAIN.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")])
def test_a_client_that_reads_nothing_is_cut_off(running, head):
    running.large = 10**7
    with running.client() as client:
        client.sendall(head)
        time.sleep(0.3)
        assert running.server.server_state.connections
        assert running.gone(1.5)
        assert len(whole(client)) < 10**7


def test_a_client_that_reads_slowly_but_goes_on_gets_all(running, monkeypatch):
    monkeypatch.setattr(server, "ENOUGH", 10**5)
    running.large = 2 * 10**6
    with running.client() as client:
        client.sendall(PLAIN)
        size, began = 0, time.monotonic()
        while size < running.large:
            part = client.recv(2**15)
            assert part
            size += len(part)
            time.sleep(0.03)
        assert time.monotonic() - began > 1.2  # longer than who reads nothing, or asks nothing more, is waited for


def test_a_client_that_does_not_read_a_refusal_is_cut_off_too(running):
    running.large = 40_000
    with running.client() as client:
        client.sendall(PLAIN * 20 + b"no HTTP\r\n\r\n")
        assert running.gone(3)


# === What comes too slowly ===


def test_a_slow_request_is_told_so_the_first_and_the_second_on_a_connection(running):
    for before in (b"", PLAIN):
        for part in (PLAIN[:20], b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1"):
            with running.client() as client:
                client.sendall(before)
                if before:
                    answered(client)
                client.sendall(part)
                found = whole(client)
                assert found.startswith(b"HTTP/1.1 408 "), found
                assert json.loads(found.partition(b"\r\n\r\n")[2])["error"] == "the request came too slowly"


def test_a_request_that_is_answered_is_not_told_that_another_came_slowly(running):
    running.pause = 1.0  # longer than the next one may take
    with running.client() as client:
        client.sendall(PLAIN + PLAIN[:20])
        found = whole(client)
    assert found.count(b"HTTP/1.1 ") == 2
    assert found.startswith(b"HTTP/1.1 200 ")
    assert b"told HTTP/1.1 408 " in found
    with running.client() as client:
        client.sendall(PLAIN + PLAIN[:20])
        answered(client)
        client.sendall(PLAIN[20:])
        answered(client)


@pytest.mark.parametrize("more", [b"\r\n", b"rest of a body"])
def test_what_is_no_request_holds_no_connection(running, monkeypatch, more):
    """An answer that needs no body comes before it; line ends before a request are none."""

    async def at_once(scope, receive, send):
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"told "})

    monkeypatch.setattr(running.server.config, "loaded_app", at_once)
    head = PLAIN if more == b"\r\n" else b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(more)
    with running.client() as client:
        client.sendall(head)
        answered(client)
        client.sendall(more)
        assert running.gone(2)


# === How much ===

CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("begin", [PLAIN[:-2] + b"x: ", CHUNKED + b"0\r\nx: ", CHUNKED + b"2;x="])
def test_one_header_without_end_is_refused_as_many_are(running, monkeypatch, begin):
    monkeypatch.setattr(server, "SLOW", 5.0)
    with running.client() as client:
        client.sendall(begin)
        for _ in range(6):
            client.sendall(b"a" * 10_000)
        time.sleep(0.1)
        assert running.server.server_state.connections
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                client.sendall(b"a" * 10_000)
        assert running.gone(1)


def test_a_header_after_a_body_is_no_part_of_it(running):
    body = b"x" * 100_000
    with running.client() as client:
        client.sendall(CHUNKED + b"%x\r\n%b\r\n0\r\ndigest: none\r\n\r\n" % (len(body), body))
        found = b""
        while not found.endswith(body):
            part = client.recv(2**16)
            assert part, found[:100]
            found += part
    assert found.startswith(b"HTTP/1.1 200 ")


def test_no_address_of_another_machine_has_more_than_half_of_the_connections(running, monkeypatch):
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 8)
    with contextlib.ExitStack() as held:
        for _ in range(8):
            held.enter_context(running.client("127.0.0.2"))
        time.sleep(0.1)
        assert len(running.server.server_state.connections) == 8
    time.sleep(0.1)
    monkeypatch.setattr(server.app, "bound", lambda host: host != "127.0.0.2")
    with contextlib.ExitStack() as held:
        clients = [held.enter_context(running.client("127.0.0.2")) for _ in range(8)]
        time.sleep(0.1)
        assert len(running.server.server_state.connections) == 4
        assert whole(clients[-1]) == b""
        answer = held.enter_context(running.client())
        answer.sendall(PLAIN)
        answered(answer)


# === By which name ===


def test_names_are_the_same_in_large_letters():
    names = server.called("Box.Example", Serve(hosts=["Yard.example"]))
    assert {"yard.example", "box.example", "localhost"} <= set(names)


# === Another protocol ===


def test_a_wish_for_another_protocol_is_answered_once_and_its_body_is_no_request(running):
    inner = b"GET /inner HTTP/1.1\r\nhost: x\r\n\r\n"
    head = b"POST /outer HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: %d\r\n\r\n"
    for pieces in ([head % len(inner) + inner], [head % len(inner), inner]):
        with running.client() as client:
            running.pause = 0.2
            for piece in pieces:
                client.sendall(piece)
                time.sleep(0.1)
            found = whole(client)
        assert found.count(b"HTTP/1.1 ") == 1
        assert b"connection: close" in found
    assert [path for path, _ in running.seen] == ["/outer", "/outer"]
