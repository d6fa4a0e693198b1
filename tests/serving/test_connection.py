"""Connections of clients that are slow, greedy or odd, to the server's own protocol before an application of a line."""

import asyncio
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
            timeout_keep_alive=60,
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

    def client(self):
        one = socket.socket()
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
        assert time.monotonic() - began > 1.0  # longer than who reads nothing is waited for


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
