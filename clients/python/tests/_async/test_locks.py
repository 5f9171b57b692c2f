"""Slots and locks."""

from __future__ import annotations

import time
from typing import Any

import pytest

from redis_gateway import LockLost, Settings
from servers import Server

from ._runtime import gateway_on, sleep, together, until


async def test_one_at_a_time_with_growing_tokens(server: Server) -> None:
    async with gateway_on(server.port) as gateway:
        async with await gateway.lock("l") as first:
            assert first.ok and first.fencing_token > 0
            first.check()
            second = await gateway.lock("l")
            assert (second.ok, second.reason, second.fencing_token) == (False, "limit", 0)
            assert 0 < second.retry_after_ms <= 30_000
            with pytest.raises(LockLost):
                second.check()
            assert not await second.release()
        assert not await first.release()
        async with await gateway.lock("l") as third:
            assert third.fencing_token > first.fencing_token


async def test_waits_for_its_turn(server: Server) -> None:
    order: list[int] = []
    async with gateway_on(server.port) as gateway:
        held = await gateway.lock("l")

        async def wait(number: int) -> None:
            await sleep(0.15 * number)
            async with await gateway.lock("l", wait=20) as lock:
                assert lock.ok
                order.append(number)

        async def release() -> None:
            await sleep(0.7)
            await held.release()

        failed = [one for one in await together(release, *[lambda at=at: wait(at) for at in range(3)]) if one]
        assert not failed and order == [0, 1, 2]
        held = await gateway.lock("l")
        started = time.monotonic()
        assert not (await gateway.lock("l", wait=0.2)).ok
        assert time.monotonic() - started >= 0.19


async def test_a_wait_is_made_of_parts(server: Server) -> None:
    async with gateway_on(server.port, Settings(timeout=5, connect_timeout=5, waiting_timeout=0.5)) as gateway:
        held = await gateway.lock("l")

        async def release() -> None:
            await sleep(1.5)
            await held.release()

        _, lock = await together(release, lambda: gateway.lock("l", wait=20))
        assert lock.ok
        await lock.release()


async def test_renewed_until_it_is_lost(server: Server) -> None:
    async with gateway_on(server.port) as gateway:
        async with await gateway.lock("l", ttl=0.6) as lock:
            await sleep(1.5)
            lock.check()
            assert not (await gateway.lock("l")).ok
            server.run("DEL l")
            await until(lambda: lock.lost)
            with pytest.raises(LockLost):
                lock.check()
        assert gateway.figures()["locks_lost"] == 1


async def test_lost_when_nobody_answers(own_server: Server) -> None:
    async with gateway_on(own_server.port, Settings(timeout=0.2, connect_timeout=0.2)) as gateway:
        lock = await gateway.lock("l", ttl=1)
        assert lock.ok and not lock.lost
        own_server.stop()
        await until(lambda: lock.lost)
        assert not await lock.release()


async def test_slots(server: Server) -> None:
    async with gateway_on(server.port) as gateway:
        slots = [await gateway.slot("s", 2) for _ in range(3)]
        assert [slot.ok for slot in slots] == [True, True, False]
        assert slots[1].in_use == 2
        assert await slots[0].release()
        assert (await gateway.slot("s", 2)).ok
        await slots[1].release()


async def test_releases_only_its_own(server: Server) -> None:
    async with gateway_on(server.port) as gateway:
        lost = await gateway.lock("l", ttl=0.05, renew=False)
        await until(lambda: lost.lost)
        async with await gateway.lock("l", wait=5) as mine:
            assert mine.ok
            assert not await lost.release()
            assert not (await gateway.lock("l")).ok


async def test_tells_at_once_that_it_is_lost(server: Server) -> None:
    async with gateway_on(server.port) as gateway, await gateway.lock("l", ttl=0.6) as lock:
        assert not await lock.until_lost(0.05)
        server.run("DEL l")
        assert await lock.until_lost(20)


async def test_released_on_errors(server: Server) -> None:
    async with gateway_on(server.port) as gateway:
        with pytest.raises(ZeroDivisionError):
            async with await gateway.lock("l"):
                raise ZeroDivisionError
        assert (await gateway.lock("l")).ok


async def test_an_outage_ends_the_wait_for_the_loss(own_server: Server) -> None:
    """Nobody tells that it is lost: its time ends."""
    async with gateway_on(own_server.port, Settings(timeout=0.2, connect_timeout=0.2)) as gateway:
        lock = await gateway.lock("l", ttl=1)
        own_server.stop()
        started = time.monotonic()
        assert not await lock.until_lost(0.05)
        assert await lock.until_lost() and lock.lost
        assert time.monotonic() - started < 5


class Slow:
    """A transport that keeps the replies of waits back for a time."""

    def __init__(self, transport: Any, seconds: float) -> None:
        self.transport = transport
        self.seconds = seconds

    async def wait(self, request: Any) -> Any:
        reply = await self.transport.wait(request)
        await sleep(self.seconds)
        return reply

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


async def test_a_grant_after_a_wait_is_held_no_longer_than_the_server_says(server: Server) -> None:
    def free() -> bool:
        found = server.run("GW.ACQUIRE l 1 another TTL 1")
        assert isinstance(found, list)
        return bool(found[0] == 1)

    async with gateway_on(server.port, Settings(timeout=0.5, connect_timeout=5)) as gateway:
        own = gateway._core.transport
        gateway._core.transport = Slow(own, 0.9)
        lock = await gateway.lock("l", ttl=1.5, wait=5, renew=False)
        assert lock.ok and not lock.lost
        while not lock.lost:
            assert not free() or lock.lost
            await sleep(0.01)
        # It lives for less time than the reply takes: it is gone by then, and asked for again.
        gateway._core.transport = Slow(own, 0.8)
        lock = await gateway.lock("l", ttl=0.5, wait=0.7, renew=False)
        assert lock.ok
        await until(lambda: lock.lost)
