"""The queue before a model, with a process that is none: who waits, who is sent away, and how all ends."""

import asyncio
import contextlib
import time

import pytest

from trainyard.params import Serve
from trainyard.serving.desk import Busy, Desk
from trainyard.serving.worker import ANSWERS, Asked, Reply
from trainyard.tracking import Pinned

ASKED = Asked(ANSWERS, "application/json", b"{}")


class Slow:
    """Answers a batch after a time, or fails."""

    def __init__(self, takes=0.0, fails=None):
        self.takes, self.fails, self.batches, self.ended = takes, fails, [], False
        self.about, self.gone = {"version": "1"}, False

    async def exchange(self, batch):
        self.batches.append(len(batch))
        await asyncio.sleep(self.takes)
        if self.fails:
            raise self.fails
        return [Reply(200, 1, b"{}") for _ in batch]

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


def test_it_ends_whatever_has_become_of_its_queue(caplog):
    async def run():
        worker = Slow(fails=RuntimeError("nobody foresaw it"))
        one = desk(worker, seconds=30.0)
        waits = asyncio.create_task(asks(one))
        await asyncio.sleep(0.1)
        assert one.load == 1
        await asyncio.wait_for(one.close(), 2)
        assert worker.ended
        waits.cancel()

    asyncio.run(run())
    assert "m: answers no more: RuntimeError('nobody foresaw it')" in caplog.text


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


def test_a_client_has_no_more_than_half_of_the_places_and_a_body_that_comes_has_one():
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
        await one.close()

    asyncio.run(run())
