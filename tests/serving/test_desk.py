"""The queue before a model, with a process that is none: who waits, who is sent away, and how all ends."""

import asyncio
import contextlib
import json
import multiprocessing
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from trainyard import tracking
from trainyard.params import Serve
from trainyard.serving import app, server
from trainyard.serving.desk import Busy, Desk, Worker
from trainyard.serving.worker import ANSWERS, Asked, Reply
from trainyard.tracking import Pinned

ASKED = Asked(ANSWERS, "application/json", b"{}")


class Slow:
    """Answers each question of a batch after a time, or fails."""

    def __init__(self, takes=0.0, fails=None):
        self.takes, self.fails, self.batches, self.ended = takes, fails, [], False
        self.about, self.gone = {"version": "1"}, False

    async def exchange(self, batch):
        self.batches.append(len(batch))
        for place in range(len(batch)):
            await asyncio.sleep(self.takes)
            if self.fails:
                raise self.fails
            yield place, Reply(200, 1, b"{}")

    async def end(self):
        self.ended = True


def desk(worker, **knobs):
    return Desk(worker, Pinned("m", "1", "c", "0" * 64, "t", None), Serve(**knobs))


async def asks(one, client="a"):
    async with one.place(client):
        return await one.ask(ASKED)


def test_who_goes_away_before_an_answer_stops_nobody(caplog):
    async def run():
        worker = Slow(takes=0.3)
        one = desk(worker)
        first = asyncio.create_task(asks(one))
        await asyncio.sleep(0.1)
        gone = [asyncio.create_task(asks(one)) for _ in range(3)]
        await asyncio.sleep(0.1)
        for task in gone:
            task.cancel()
        last = asyncio.create_task(asks(one))
        assert (await first)[0].status == (await last)[0].status == 200
        assert worker.batches == [1, 1]  # who has gone is not computed for
        await asyncio.wait_for(one.close(), 2)
        assert worker.ended

    asyncio.run(run())


def test_who_is_sent_away_is_told_before_a_body_is_read():
    async def run():
        worker = Slow()
        worker.about["kind"] = "tables"
        one = desk(worker, waiting=4)
        built = app.build({"m": one}, one.serve, ["x"], None)

        async def status(client):
            told = []
            scope = {"type": "http", "method": "POST", "path": "/models/m/answers", "query_string": b""}
            scope |= {"headers": [(b"host", b"x")], "client": (client, 1)}

            async def send(message):
                told.append(message)

            await asyncio.wait_for(built(scope, asyncio.Event().wait, send), 2)  # no body ever comes
            return told[0]["status"]

        async with contextlib.AsyncExitStack() as held:
            for _ in range(3):
                await held.enter_async_context(one.place("10.0.0.1"))
            assert await status("10.0.0.1") == 429
            with pytest.raises(TimeoutError):  # it is waited for
                await status("10.0.0.2")
            await held.enter_async_context(one.place(None))
            assert await status("127.0.0.1") == 503
        assert one.load == 0
        await one.close()

    asyncio.run(run())


def test_a_fault_of_the_server_is_told_as_all_else_is(monkeypatch):
    async def run():
        worker = Slow()
        worker.about["kind"] = "tables"
        one, told = desk(worker), []
        monkeypatch.setattr(one, "refuse", lambda client: 1 / 0)

        async def send(message):
            told.append(message)

        scope = {"type": "http", "method": "POST", "path": "/models/m/answers", "query_string": b""}
        scope |= {"headers": [(b"host", b"x")], "client": ("127.0.0.1", 1)}
        with pytest.raises(ZeroDivisionError):  # for the log
            await app.build({"m": one}, one.serve, ["x"], None)(scope, asyncio.Event().wait, send)
        assert told[0]["status"] == 500
        assert json.loads(told[1]["body"]) == {"error": "a fault of the server", "field": None, "row": None}
        await one.close()

    asyncio.run(run())


def test_it_ends_whatever_has_become_of_its_queue(caplog):
    async def run():
        worker = Slow(fails=RuntimeError("nobody foresaw it"))
        one = desk(worker, seconds=30.0)
        waits = asyncio.create_task(asks(one))
        await asyncio.sleep(0.1)
        assert one.load == 1
        assert not one.ready
        await asyncio.wait_for(one.close(), 2)
        assert worker.ended
        waits.cancel()

    asyncio.run(run())
    assert "m: answers no more: RuntimeError('nobody foresaw it')" in caplog.text


def test_a_process_that_starts_keeps_its_end_though_the_server_ends(monkeypatch):
    begun, goes_on, held = threading.Event(), threading.Event(), []

    class Process:
        def __init__(self, args, **_):
            self.theirs = args[0]

        def start(self):
            begun.set()
            goes_on.wait(10)
            held.append(self.theirs.fileno())

    monkeypatch.setattr(multiprocessing, "get_context", lambda _: SimpleNamespace(Process=Process))

    async def run():
        starting = asyncio.create_task(Worker.start(Pinned("m", "1", "c", "0" * 64, "t", None), Serve()))
        await asyncio.to_thread(begun.wait, 10)
        starting.cancel()
        await asyncio.wait([starting])
        goes_on.set()

    asyncio.run(run())
    (descriptor,) = held
    assert descriptor >= 0


def test_an_answer_comes_within_its_seconds_or_not_and_no_process_that_works_is_ended():
    async def run():
        worker = Slow(takes=0.8)
        one = desk(worker, seconds=1.0)
        first = asyncio.create_task(asks(one))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        with pytest.raises(Busy, match="an answer took more than 1 s"):
            await asks(one)
        assert 0.9 < time.monotonic() - began < 1.2
        assert (await first)[0].status == 200
        assert not worker.ended
        assert one.load == 0
        await one.close()

    asyncio.run(run())


def test_questions_that_together_take_too_long_end_no_process():
    async def run():
        worker = Slow(takes=0.3)
        one = desk(worker, seconds=1.0)
        first = asyncio.create_task(asks(one))
        await asyncio.sleep(0.1)
        found = await asyncio.gather(*(asks(one) for _ in range(6)), return_exceptions=True)
        assert worker.batches == [1, 6]
        late = [isinstance(told, Busy) for told in found]
        assert late == [False, False, True, True, True, True]
        await asyncio.sleep(1.0)  # a process of ours would compute no more of them
        assert (await first)[0].status == (await asks(one))[0].status == 200
        assert not worker.ended
        await one.close()

    asyncio.run(run())


@pytest.mark.parametrize("fault", [OSError(24, "Too many open files"), EOFError()], ids=repr)
def test_where_no_process_can_be_started_it_is_tried_again(monkeypatch, caplog, fault):
    monkeypatch.setattr("trainyard.serving.desk.PATIENCE", (0.05,))
    tries = []

    def pair():
        tries.append(1)
        raise fault

    async def run():
        one = desk(Slow(fails=EOFError()))
        monkeypatch.setattr(socket, "socketpair", pair)
        with pytest.raises(Busy, match="the model's process died"):
            await asks(one)
        await asyncio.sleep(0.5)
        assert len(tries) > 2
        await one.close()

    asyncio.run(run())
    assert f"m: no process can be started for it ({fault})" in caplog.text


def test_a_version_that_cannot_be_fetched_is_looked_up_again_when_told_so_again(monkeypatch, caplog):
    asked = []

    def pin(name, place):
        asked.append(name)
        raise OSError(28, "No space left on device")

    async def run():
        one, again = desk(Slow()), asyncio.Event()
        monkeypatch.setattr(tracking, "pin", pin)
        task = asyncio.create_task(server._reload(again, {"m": ("m", one.pinned)}, {"m": one}, None))
        for _ in range(2):
            again.set()
            await asyncio.sleep(0.2)
        assert asked == ["m", "m"]
        task.cancel()
        await one.close()

    asyncio.run(run())
    assert "No space left on device; version 1 answers on" in caplog.text


def test_a_client_has_no_more_than_half_of_the_places_but_for_who_may_be_many():
    async def run():
        one = desk(Slow(), waiting=4)
        async with contextlib.AsyncExitStack() as held:
            for _ in range(3):
                await held.enter_async_context(one.place("a"))
            assert one.load == 3
            with pytest.raises(Busy, match="3 requests of yours wait already") as busy:
                await asks(one, "a")
            assert (busy.value.status, busy.value.again) == (429, 1)
            assert (await asks(one, "b"))[0].status == 200
            async with one.place("b"):
                with pytest.raises(Busy, match="4 requests wait already") as busy:
                    await asks(one, "c")
                assert busy.value.status == 503
        assert one.load == 0
        async with contextlib.AsyncExitStack() as held:
            for _ in range(4):
                await held.enter_async_context(one.place(None))
            with pytest.raises(Busy, match="4 requests wait already") as busy:
                one.refuse(None)
            assert busy.value.status == 503
        await one.close()

    asyncio.run(run())
