"""A model that is served: questions wait here, and go together to the process that holds its champion.

What waits while one batch is answered is the next batch: few at a time where few ask, many where many do.
"""

import asyncio
import json
import logging
import multiprocessing
import socket
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from trainyard.errors import BadInput, EnvironmentFailed
from trainyard.params import Serve
from trainyard.serving.worker import LENGTH, Asked, Reply, work
from trainyard.tracking import Pinned

TOGETHER, TOGETHER_BYTES = 64, 2**20
"""Questions of a batch, and bytes of their bodies after which none is added."""
START = 300.0
"""Seconds in which a process must have loaded its champion."""
PARTING = 1.0
"""Seconds for a process to end by itself."""
WATCH = 1.0
"""Seconds after which it is seen that a process has died that nobody asks."""
PATIENCE = (1, 2, 4, 8, 15, 30)
"""Seconds between tries to start a process that does not."""
PRELOADED = ["trainyard.serving.preloaded"]
"""Slow imports are made once: processes are forked from one that has made them, and has computed nothing."""

log = logging.getLogger(__name__)


class Busy(Exception):
    """No answer now: what is the matter, after how many seconds to come again, and a status of HTTP."""

    def __init__(self, told: str, again: int, status: int = 503) -> None:
        super().__init__(told)
        self.told, self.again, self.status = told, again, status


class Worker:
    """The server's end of a process that holds a champion."""

    def __init__(self, process: Any, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self.process = process
        self._read, self._write = streams
        self.about: dict[str, Any] = {}

    @classmethod
    async def start(cls, pinned: Pinned, serve: Serve) -> "Worker":
        """Give a process whose champion answers; raises BadInput where it refuses, EnvironmentFailed where it dies."""
        methods = multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if hasattr(context, "set_forkserver_preload"):
            context.set_forkserver_preload(PRELOADED)
        try:
            ours, theirs = socket.socketpair()
            process = context.Process(target=work, args=(theirs, pinned, serve), name=pinned.model, daemon=True)
            try:
                await asyncio.to_thread(_start, process, theirs)
                worker = cls(process, await asyncio.open_connection(sock=ours, limit=2**24))
            except BaseException:
                ours.close()  # by which the process ends, too
                raise
        except (OSError, EOFError) as error:  # too many files or processes
            raise EnvironmentFailed(f"{pinned.model}: no process can be started for it ({error})") from None
        try:
            async with asyncio.timeout(START):
                worker.about = json.loads(await worker._frame())
        except (TimeoutError, OSError, EOFError):
            await worker.end()
            raise EnvironmentFailed(f"{pinned.model}: its process died, or took more than {START:.0f} s") from None
        except asyncio.CancelledError:  # the server ends at its start
            process.kill()
            raise
        if refused := worker.about.get("refused"):
            await worker.end()
            raise BadInput(refused)
        return worker

    @property
    def gone(self) -> bool:
        """Whether the process has ended."""
        return self._read.at_eof()

    async def exchange(self, batch: Sequence[Asked]) -> AsyncIterator[tuple[int, Reply]]:
        """Answers to a batch, by its places, as they come; raises EOFError or OSError where the process is gone."""
        head = json.dumps([[one.what, one.content_type] for one in batch]).encode()
        for frame in (head, *(one.body for one in batch)):
            self._write.write(len(frame).to_bytes(LENGTH))
            self._write.write(frame)
        await self._write.drain()
        left = len(batch)
        while left:
            told = json.loads(await self._frame())
            left -= len(told)
            for place, status, rows in told:
                yield place, Reply(status, rows, await self._frame())

    async def end(self) -> None:
        """Let the process write what it keeps, and kill it: what it is at is lost."""
        self._write.close()
        await asyncio.to_thread(self.process.join, PARTING)
        self.process.kill()
        await asyncio.to_thread(self.process.join)
        with suppress(OSError):
            await self._write.wait_closed()

    async def _frame(self) -> bytes:
        length = int.from_bytes(await self._read.readexactly(LENGTH))
        return await self._read.readexactly(length)


@dataclass
class Waiting:
    """A question with who waits for its answer."""

    asked: Asked
    reply: "asyncio.Future[tuple[Reply, dict[str, Any]]]"


class Desk:
    """Takes questions to one model."""

    def __init__(self, worker: Worker, pinned: Pinned, serve: Serve) -> None:
        self.pinned, self.serve = pinned, serve
        self.about = worker.about
        self._worker: Worker | None = worker
        self._waiting: deque[Waiting] = deque()
        self._batch: list[Waiting] = []
        self._places: Counter[str | None] = Counter()
        self._some = asyncio.Event()
        self._asked: Worker | None = None
        self._pump = asyncio.create_task(self._answer_all())
        self._pump.add_done_callback(self._stopped)

    @classmethod
    async def open(cls, pinned: Pinned, serve: Serve) -> "Desk":
        """A desk with a champion that answers; raises as `Worker.start`."""
        return cls(await Worker.start(pinned, serve), pinned, serve)

    @property
    def ready(self) -> bool:
        """Whether there is somebody who answers."""
        return self._worker is not None and not self._pump.done()

    @property
    def load(self) -> int:
        """Requests that wait, or are answered."""
        return self._places.total()

    def refuse(self, client: str | None) -> None:
        """Raise Busy where no place is left, and, with another status, for a client that holds more than half of them.

        `client` is who asks, None where one is not told from another.
        """
        self._refuse_unready()
        if client is not None and 2 * self._places[client] > self.serve.waiting:
            raise Busy(f"{self._places[client]} requests of yours wait already", 1, 429)
        if self.load >= self.serve.waiting:
            raise Busy(f"{self.load} requests wait already", 1)

    @asynccontextmanager
    async def place(self, client: str | None) -> AsyncIterator[None]:
        """A place for a request whose body is there, until it is answered; raises as `refuse`."""
        self.refuse(client)
        self._places[client] += 1
        try:
            yield
        finally:
            self._places[client] -= 1
            if not self._places[client]:
                del self._places[client]

    async def ask(self, asked: Asked) -> tuple[Reply, dict[str, Any]]:
        """The answer, and what is known of who gave it. Raises Busy."""
        self._refuse_unready()
        one = Waiting(asked, asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        self._some.set()
        try:
            async with asyncio.timeout(self.serve.seconds):
                return await one.reply
        except TimeoutError:
            raise Busy(self._late(), 5) from None

    async def replace(self, pinned: Pinned) -> None:
        """Have another version answer from the next batch on; raises as `Worker.start`, and all stays as it was."""
        worker = await Worker.start(pinned, self.serve)
        before, self._worker = self._worker, worker
        self.pinned, self.about = pinned, worker.about
        while before and self._asked is before:
            await asyncio.sleep(0.01)
        if before:
            await before.end()

    async def close(self) -> None:
        """Answer what waits, and end the process."""
        while self.load and self.ready:
            await asyncio.sleep(0.01)
        self._pump.cancel()
        if self._worker:
            await self._worker.end()

    async def _answer_all(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._some.wait(), WATCH)
            worker, self._batch = self._worker, self._taken()
            if not self._waiting:
                self._some.clear()
            if worker is None or not (self._batch or worker.gone):
                continue
            self._asked = worker
            try:
                if worker.gone:
                    raise EOFError
                async with asyncio.timeout(self.serve.seconds) as late:
                    async for place, reply in worker.exchange([one.asked for one in self._batch]):
                        late.reschedule(asyncio.get_running_loop().time() + self.serve.seconds)
                        if not self._batch[place].reply.done():
                            self._batch[place].reply.set_result((reply, worker.about))
            except TimeoutError:
                await self._start_again(worker, self._late())
            except (EOFError, OSError, ValueError, TypeError, LookupError):  # gone, or what it says makes no sense
                await self._start_again(worker, "the model's process died")
            finally:
                self._batch, self._asked = [], None

    def _taken(self) -> list[Waiting]:
        """The next batch, of questions for whose answers somebody waits still."""
        batch: list[Waiting] = []
        size = 0
        while self._waiting and len(batch) < TOGETHER and size < TOGETHER_BYTES:
            one = self._waiting.popleft()
            if not one.reply.done():
                batch.append(one)
                size += len(one.asked.body)
        return batch

    def _refuse_unready(self) -> None:
        if not self.ready:
            raise Busy("the model's process is being started", 5)

    def _late(self) -> str:
        return f"an answer took more than {self.serve.seconds:g} s"

    def _stopped(self, pump: "asyncio.Task[None]") -> None:
        if not pump.cancelled() and (error := pump.exception()):
            log.error("%s: answers no more: %r", self.pinned.model, error)

    async def _start_again(self, worker: Worker, told: str) -> None:
        """End a process, and all questions to it; another takes its place, from the files that are pinned."""
        log.error("%s: %s; its process is ended, and another started", self.pinned.model, told)
        lost = self._batch
        if self._worker is worker:  # else another has taken its place, and takes what waits
            self._worker, lost = None, [*lost, *self._waiting]
            self._waiting.clear()
        for one in lost:
            if not one.reply.done():
                one.reply.set_exception(Busy(told, 5))
        await worker.end()
        tries = 0
        while self._worker is None:
            try:
                began = await Worker.start(self.pinned, self.serve)
            except (BadInput, EnvironmentFailed) as error:
                log.error("%s", error)  # one line tells it
                await asyncio.sleep(PATIENCE[min(tries, len(PATIENCE) - 1)])
                tries += 1
            else:
                if self._worker is None:
                    self._worker, self.about = began, began.about
                else:  # a reload was faster
                    await began.end()
        log.info("%s: version %s answers again", self.pinned.model, self.pinned.version)


def _start(process: Any, theirs: socket.socket) -> None:
    """Start a process, and let go of its end: not sooner, though nobody waits for the start any more."""
    with theirs:
        process.start()
