"""Verb `serve`: models of the registry answer over HTTP, and on a page, until the server is told to end.

In:   the registry, `serve` of params.yaml, TRAINYARD_TOKEN
Out:  answers; a line a request on stderr, without what was asked; .trainyard/requests, where params ask for it
Exit: 0 told to end (SIGTERM, Ctrl-C), 2 no such version, or open to other machines without a token, 5 MLflow does not
      answer, the port is taken, a process of a model dies at the start
SIGHUP has every model look up its version again, and take another's place only once that has proved itself.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from trainyard import exporting, tracking
from trainyard.errors import BadInput, EnvironmentFailed, TrainyardError
from trainyard.params import Params, Serve
from trainyard.serving import app
from trainyard.serving.desk import Desk
from trainyard.tracking import NoAlias, Pinned

TOKEN = "TRAINYARD_TOKEN"  # noqa: S105  # its name
LEAST = 16
"""Characters of a token."""
SLOW = 10.0
"""Seconds in which a request must have come, or `ENOUGH` of it."""
IDLE = 15
"""Seconds after an answer in which the next request may come by the same connection."""
ENOUGH = 2**18
"""Bytes of a body, or of an answer that is read, for which there is as much time again."""
MOST_HEADERS = 2**16
"""Bytes of an address and all headers."""
MOST_CONNECTIONS = 512
"""At a time, and of one address of another machine half of them."""
END = 10
"""Seconds for requests that are being answered, once the server is told to end."""

log = logging.getLogger(__name__)


class Connection(HttpToolsProtocol):
    """A connection that waits for no slow client: what is not sent or not read in time ends it, wherever it stands."""

    _late: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _head = 0
    """Bytes of an address and of headers that are whole."""
    _size = 0
    """Bytes of a body since it had more time."""
    _untold = 0
    """Bytes that have brought nothing yet: of a header the parser tells nothing until it is whole."""
    _reading = False
    """Whether a part of a request is there."""
    _open = 0
    """Requests that have begun to come and have no whole answer."""
    _other = False
    """Whether what comes is no HTTP/1.1 any more."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """One of many too many is closed at once."""
        super().connection_made(transport)
        self._wait()
        clients = [one.client for one in self.connections if isinstance(one, Connection)]
        same = sum(client[0] == self.client[0] for client in clients if client and self.client)
        shared = self.client is None or app.bound(self.client[0])  # of this machine, it may be a proxy
        if len(clients) > MOST_CONNECTIONS or (not shared and 2 * same > MOST_CONNECTIONS):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._end()
        self._read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """After a wish for another protocol nothing can be told to be a request."""
        if self._other:
            return
        self._untold += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._untold > MOST_HEADERS:
            self.send_400_response("")
        elif not (self._open or self._reading or self._late):  # no request begins, and uvicorn has ended its own time
            self._wait()

    def on_message_begin(self) -> None:
        """The time runs from its first byte on."""
        super().on_message_begin()
        self._head, self._size, self._reading = 0, 0, True
        self._open += 1
        self._wait()

    def on_url(self, url: bytes) -> None:
        """Part of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Where another protocol is wished for, the parser reads no body, so that this is the last answer."""
        self._untold = 0
        super().on_headers_complete()
        if self.parser.should_upgrade():
            self._other, self.cycle.keep_alive = True, False

    def on_body(self, body: bytes) -> None:
        """What brings enough of a body has more time for the rest."""
        super().on_body(body)
        self._untold = 0
        self._size += len(body)
        if self._size > ENOUGH and not self.cycle.response_complete:
            self._size = 0
            self._wait()

    def on_message_complete(self) -> None:
        """It came in time."""
        self._untold, self._reading = 0, False
        self._end()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The time of the next request, part of which is there, begins."""
        self._open -= 1
        super().on_response_complete()
        if self._reading:
            self._wait()
        if self.transport.is_closing():
            self._must_read()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered."""
        super().pause_writing()
        self._must_read()

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._read()

    def timeout_keep_alive_handler(self) -> None:
        """Close, once the last answer is read."""
        super().timeout_keep_alive_handler()
        self._must_read()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is told so in JSON, and in no words of its own."""
        self._tell(b"400 Bad Request", b"no HTTP that is read")

    def _unsupported_upgrade_warning(self) -> None:
        """No line of the log: it is answered."""

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > MOST_HEADERS:
            raise ValueError("headers are too large")  # the parser ends there, and 400 is told

    def _wait(self) -> None:
        """Give what is coming its time; while an earlier request is being answered, nothing is asked of the client."""
        self._end()
        if self._open <= 1:
            self._late = self.loop.call_later(SLOW, self._give_up)

    def _end(self) -> None:
        if self._late:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        begun = self.cycle is not None and not self.cycle.response_complete and self.cycle.response_started
        if self._open and not begun:
            self._tell(b"408 Request Timeout", b"the request came too slowly")
        else:
            self.transport.abort()

    def _must_read(self) -> None:
        """End it unless the client reads `ENOUGH` of what is written, or all, each time."""
        if not self._unread:
            left = self.transport.get_write_buffer_size()
            self._unread = self.loop.call_later(SLOW, self._look, left)

    def _look(self, before: int) -> None:
        self._unread = None
        left = self.transport.get_write_buffer_size()
        if left > max(before - ENOUGH, 0):
            self.transport.abort()
        elif left:
            self._must_read()

    def _read(self) -> None:
        if self._unread:
            self._unread.cancel()
            self._unread = None

    def _tell(self, status: bytes, error: bytes) -> None:
        told = b'{"error": "%b", "field": null, "row": null}' % error
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, len(told)) + told)
        self.transport.close()
        self._must_read()


class Server(uvicorn.Server):
    """uvicorn's, which leaves signals to us, and says when it listens."""

    def __init__(self, config: uvicorn.Config, ready: str) -> None:
        super().__init__(config)
        self.ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        log.info(self.ready)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None."""
        yield


def serve(names: Sequence[str], params: Params, host: str, port: int) -> None:
    """Answer as the versions that `names` name, NAME, NAME@ALIAS or NAME/VERSION, or as all champions without any.

    Raises before it answers.
    """
    token = os.environ.get(TOKEN) or None
    if token is not None and len(token) < LEAST:
        raise BadInput(f"{TOKEN}: {len(token)} characters (at least {LEAST}: `openssl rand -hex 32`)")
    if token is None and not app.bound(host):
        told = f"--host {host} is reached from other machines: set {TOKEN}, which they then must name"
        raise BadInput(f"{told} (`export {TOKEN}=$(openssl rand -hex 32)`)")
    if params.serve.runtime != "tensorflow":
        exporting.need(params.serve.runtime, "serve.runtime")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # a question is answered sooner by the CPU
    with _listening(host, port) as listener, tempfile.TemporaryDirectory(prefix="trainyard-") as place:
        pinned = {}
        for name in names or params.models:
            try:
                found = tracking.pin(name, Path(place))
            except NoAlias as error:
                if names:
                    raise
                log.warning("%s; it is left out", error)
                continue
            if found.model in pinned:
                raise BadInput(f"{found.model} is named twice (one version of a model is served at a time)")
            pinned[found.model] = (name, found)
        if not pinned:
            raise BadInput("no model of params.yaml has a champion (run `dvc repro`)")
        factory: Any = None
        with suppress(ImportError):  # Windows has none
            from uvloop import new_event_loop as factory
        with asyncio.Runner(loop_factory=factory) as runner, suppress(asyncio.CancelledError):  # at its start
            runner.run(_serve(pinned, params, listener, host, token, Path(place)))


def called(host: str, serve: Serve) -> list[str]:
    """Names and addresses by which a server at `host` may be called, in small letters."""
    names = ("localhost", "127.0.0.1", "::1", host, socket.gethostname(), *serve.hosts)
    return sorted({name.lower() for name in names})


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that is ours; raises EnvironmentFailed where the port is taken, BadInput for no address."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, OverflowError, UnicodeError):
        raise BadInput(f"--host {host} --port {port}: no such address") from None
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen()  # from here on the port is taken; who comes early waits
        except OSError as error:
            raise EnvironmentFailed(f"--host {host} --port {port}: {error.strerror} (`--port` names another)") from None
        yield listener


async def _serve(
    pinned: dict[str, tuple[str, Pinned]],
    params: Params,
    listener: socket.socket,
    host: str,
    token: str | None,
    place: Path,
) -> None:
    loop, again, task = asyncio.get_running_loop(), asyncio.Event(), asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGINT):  # until it listens
        loop.add_signal_handler(number, task.cancel)  # type: ignore[union-attr]  # we run in one
    loop.add_signal_handler(signal.SIGHUP, again.set)
    async with _opened([version for _, version in pinned.values()], params.serve) as desks:
        for model, (_, version) in pinned.items():
            told = version.version, version.content[:8], desks[model].about["runtime"]
            log.info("%s: version %s, content %s, answers its example by %s", model, *told)
        application = app.build(desks, params.serve, called(host, params.serve), token)
        config = uvicorn.Config(
            application,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE,
            timeout_graceful_shutdown=END,
        )
        shown = f"[{host}]" if ":" in host else host
        ready = (
            f"http://{shown}:{listener.getsockname()[1]}/ is ready{', with a token' if token else ''}; Ctrl-C ends it"
        )
        server = Server(config, ready)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, setattr, server, "should_exit", True)
        gc.freeze()  # else all that was imported is looked at now and then, while everybody waits
        reloading = asyncio.create_task(_reload(again, pinned, desks, place))
        try:
            await server.serve([listener])
        finally:
            reloading.cancel()


@asynccontextmanager
async def _opened(versions: Sequence[Pinned], serve: Serve) -> AsyncIterator[dict[str, Desk]]:
    """A desk for each version, by its model; raises what the first of them does that cannot be had."""
    found = await asyncio.gather(*(Desk.open(version, serve) for version in versions), return_exceptions=True)
    desks = {one.pinned.model: one for one in found if isinstance(one, Desk)}
    try:
        for one in found:
            if isinstance(one, BaseException):
                raise one
        yield desks
    finally:
        await asyncio.gather(*(desk.close() for desk in desks.values()))


async def _reload(
    again: asyncio.Event, pinned: dict[str, tuple[str, Pinned]], desks: dict[str, Desk], place: Path
) -> None:
    """Look every version up again when told to; what cannot be had, or does not prove itself, changes nothing."""
    while True:
        await again.wait()
        again.clear()
        for model, (name, _) in pinned.items():
            desk = desks[model]
            try:
                found = await asyncio.to_thread(tracking.pin, name, place)
                if found == desk.pinned:
                    log.info("%s: version %s, as it was", model, found.version)
                    continue
                await desk.replace(found)
                told = found.version, found.content[:8], desk.about["runtime"]
                log.info("%s: version %s, content %s, answers from now on by %s", model, *told)
            except (TrainyardError, OSError) as error:
                log.error("%s; version %s answers on", error, desk.pinned.version)  # one line tells it
