"""Bodies of requests are read in bounded memory and time, and small ones pass where large ones fill it."""

import asyncio
import tracemalloc
from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest

from trainyard.serving import app
from trainyard.serving.app import Bodies
from trainyard.serving.desk import Busy
from trainyard.serving.question import Refused


def request(*parts, pause=0.0, **headers):
    """One whose body comes in parts."""
    left = list(parts)

    async def receive():
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    return SimpleNamespace(headers=headers, receive=receive)


def test_what_large_ones_hold_keeps_no_small_one_out(monkeypatch):
    monkeypatch.setattr(app, "HELD", 100)

    async def run():
        bodies = Bodies()
        async with AsyncExitStack() as held:
            for _ in range(3):
                await held.enter_async_context(bodies.read(request(b"x" * 33), 50))
            with pytest.raises(Busy, match="fill the memory"):
                await held.enter_async_context(bodies.read(request(b"x" * 20, b"x" * 20), 50))
            assert await held.enter_async_context(bodies.read(request(b"x" * 5), 50)) == b"x" * 5
            assert (bodies.count, bodies.size) == (4, 104)
        assert (bodies.count, bodies.size) == (0, 0)

    asyncio.run(run())


def test_bodies_of_one_client_fill_no_more_than_half(monkeypatch):
    monkeypatch.setattr(app, "HELD", 100)

    async def run():
        bodies = Bodies()
        async with AsyncExitStack() as held:
            await held.enter_async_context(bodies.read(request(b"x" * 40), 50, "greedy"))
            with pytest.raises(Busy, match="of yours fill half") as busy:
                await held.enter_async_context(bodies.read(request(b"x" * 6, b"x" * 6), 50, "greedy"))
            assert busy.value.status == 429
            assert len(await held.enter_async_context(bodies.read(request(b"x" * 50), 50, "other"))) == 50
        async with bodies.read(request(b"x" * 50), 50, "greedy") as body:  # what is over counts no more
            assert len(body) == 50
        assert not bodies._of

    asyncio.run(run())


def test_this_machine_is_known_however_it_is_called():
    assert all(map(app.bound, ["localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]))
    assert not any(map(app.bound, ["0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "example.org"]))  # noqa: S104


def test_a_whole_body_has_one_time_however_it_is_cut(monkeypatch):
    monkeypatch.setattr(app, "UPLOAD", 0.2)

    async def run():
        bodies = Bodies()
        with pytest.raises(Refused) as refused:
            async with bodies.read(request(*[b"x"] * 100, pause=0.05), 1000):
                pass
        assert refused.value.status == 408
        assert (bodies.count, bodies.size) == (0, 0)

    asyncio.run(run())


def test_a_body_is_there_once():
    async def run():
        tracemalloc.start()
        async with Bodies().read(request(*map(bytes, [2**17] * 16)), 2**22) as body:
            held, _ = tracemalloc.get_traced_memory()
            assert len(body) == 2**21
            assert held < 1.5 * 2**21
        tracemalloc.stop()

    asyncio.run(run())


def test_a_length_that_is_none_is_too_large():
    async def run(told):
        async with Bodies().read(request(b"{}", **{"content-length": told}), 1000) as body:
            return body

    assert asyncio.run(run("2")) == b"{}"
    for told in ("1001", "0" * 5000 + "2", "-2", "2 ", "\u00b2"):
        with pytest.raises(Refused) as refused:
            asyncio.run(run(told))
        assert refused.value.status == 413
