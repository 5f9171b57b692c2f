"""What only tasks can do: to be cancelled."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import pytest

from _async._runtime import gateway_on
from redis_gateway import Settings
from redis_gateway._async._runtime import bounded
from servers import Server


def policies(server: Server) -> None:
    server.run("GW.POLICYSET a parallel INFLIGHT 5")
    server.run("GW.POLICYSET a month BUDGET 100 MONTH")


async def eventually(condition: Any) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true")


def in_flight(server: Server) -> int:
    flat = server.run("GW.DESCRIBE a")
    assert isinstance(flat, list)
    return int(flat[flat.index("in_flight") + 1])


async def test_a_cancelled_task_settles(own_server: Server) -> None:
    policies(own_server)
    async with gateway_on(own_server.port) as gateway:
        began = asyncio.Event()

        async def request() -> None:
            async with await gateway.admit("a", {"usd": 1}) as admission:
                admission.use(usd="0.25")
                began.set()
                await asyncio.sleep(3600)

        task = asyncio.create_task(request())
        await began.wait()
        own_server.freeze()  # So that the settlement takes time, and can be cancelled as well.
        task.cancel()
        await asyncio.sleep(0.05)
        task.cancel()
        own_server.thaw()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: in_flight(own_server) == 0)
        assert own_server.run("GW.SPENT a") == "0.25"


async def test_a_cancelled_question_is_undone(own_server: Server) -> None:
    policies(own_server)
    async with gateway_on(own_server.port) as gateway:
        await gateway.health()
        own_server.freeze()
        tasks = [asyncio.create_task(gateway.admit("a", {"usd": 1})) for _ in range(3)]
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        own_server.thaw()
        await eventually(lambda: gateway.kept == 3)
        await gateway.send_kept()
        await eventually(lambda: gateway.kept == 0)
        assert in_flight(own_server) == 0 and own_server.run("GW.SPENT a") == "0"


async def test_a_cancelled_acquire_leaves_nothing_taken(server: Server) -> None:
    async with gateway_on(server.port) as gateway:
        held = await gateway.lock("l")
        task = asyncio.create_task(gateway.lock("l", wait=30))
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.wait([task])
        await held.release()

        def free() -> bool:
            found = server.run("GW.ACQUIRE l 1 test TTL 10")
            assert isinstance(found, list)
            return found[0] == 1

        await eventually(free)


async def test_a_cancelled_reservation_sets_nothing_aside(own_server: Server) -> None:
    async with gateway_on(own_server.port) as gateway:
        await gateway.health()
        own_server.freeze()
        task = asyncio.create_task(gateway.budgets.reserve("l", 5, [(10, "MONTH")]))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait([task])
        own_server.thaw()
        await gateway.send_kept()

        def nothing_held() -> bool:
            found = own_server.run("GW.WITHINBUDGET l 10")
            assert isinstance(found, list)
            return found[4] == "0"

        await eventually(nothing_held)


async def test_a_cancelled_computation_gives_its_lease_up(server: Server) -> None:
    async with gateway_on(server.port) as gateway:
        cache = gateway.cache("chat")

        async def never() -> str:
            await asyncio.sleep(3600)
            return ""

        async def soon() -> str:
            return "answer"

        task = asyncio.create_task(cache.get_or_compute({"a": 1}, never))
        other = asyncio.create_task(gateway.cache("chat").get_or_compute({"a": 1}, soon))
        await asyncio.sleep(0.2)
        task.cancel()
        assert await other == "answer"


async def test_a_cancelled_question_of_the_cache_gives_its_lease_up(own_server: Server) -> None:
    async with gateway_on(own_server.port) as gateway:
        await gateway.health()
        cache = gateway.cache("chat")

        async def soon() -> str:
            return "answer"

        own_server.freeze()  # So that it is cancelled before the reply comes.
        task = asyncio.create_task(cache.get_or_compute({"a": 1}, soon))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        own_server.thaw()
        started = asyncio.get_running_loop().time()
        assert await gateway.cache("chat").get_or_compute({"a": 1}, soon) == "answer"
        assert asyncio.get_running_loop().time() - started < 10


async def test_a_cancelled_flush_goes_on_alone(own_server: Server) -> None:
    async with gateway_on(own_server.port) as gateway:
        logs = gateway.logs("log", batch=1, every=3600)
        logs._running = True
        for at in range(3):
            logs.push({"id": at})
        await gateway.health()
        own_server.freeze()
        task = asyncio.create_task(logs.flush())
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait([task])
        own_server.thaw()
        assert await logs.flush() and len(logs) == 0
        assert own_server.run("GW.LOGPEEK log COUNT 10") == [f'{{"id":{at}}}' for at in range(3)]


async def test_a_record_that_is_pushed_outside_the_loop_is_not_lost(server: Server) -> None:
    async with gateway_on(server.port) as gateway:
        logs = gateway.logs("log", every=0.01)
        await asyncio.to_thread(logs.push, {"id": 1})
        logs.push({"id": 2})
        await eventually(lambda: len(logs) == 0)
        assert server.run("GW.LOGLEN log") == 2


async def test_a_busy_event_loop_is_no_time_out(server: Server) -> None:
    """The application holds up the loop for longer than the time-out, again and again: the replies are there
    meanwhile."""
    settings = Settings(timeout=0.08, connect_timeout=0.08, failures=1_000)
    async with gateway_on(server.port, settings) as gateway:
        ended = asyncio.Event()

        async def hold_up() -> None:
            while not ended.is_set():
                time.sleep(0.1)
                await asyncio.sleep(0)

        busy = asyncio.create_task(hold_up())
        decisions = await asyncio.gather(*(gateway.allow("busy", 100) for _ in range(20)))
        ended.set()
        await busy
    assert [decision.reason for decision in decisions] == [""] * 20


class TurnsOfALoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, on which each turn takes so long."""

    def __init__(self, turn: float) -> None:
        super().__init__()
        self._turn = turn
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        self._now += self._turn
        self.call_soon(lambda: None)  # It waits for nothing.
        super()._run_once()  # type: ignore[misc]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="before Python 3.11 a time-out is one of the clock")
@pytest.mark.parametrize(
    ("seconds", "turn", "least", "most"),
    [(0.2, 0.001, 0.2, 0.22), (0.2, 0.01, 0.2, 0.25), (0.2, 0.1, 3.0, 3.6), (0.0, 0.001, 0.0, 0.02)],
)
def test_a_time_out_is_longer_only_if_the_loop_is_held_up(
    seconds: float, turn: float, least: float, most: float
) -> None:
    """Turns of 10 ms are usual: 0.2 s stay 0.2 s. Of one that takes 100 ms a 32nd counts."""
    loop = TurnsOfALoop(turn)

    async def main() -> float:
        began = loop.time()
        with pytest.raises(TimeoutError):
            await bounded(seconds, asyncio.sleep, 1_000.0)
        return loop.time() - began

    try:
        assert least <= loop.run_until_complete(main()) <= most
    finally:
        loop.close()
