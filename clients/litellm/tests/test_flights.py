"""The response cache in one process: who asks the server, and who waits for whom. Without a proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from redis_gateway import AsyncGateway
from redis_gateway.testing import FakeRedis
from redis_gateway_litellm.background import Background
from redis_gateway_litellm.cache import ResponseCache
from redis_gateway_litellm.calls import Call, Calls
from redis_gateway_litellm.estimates import Estimate, Prices, estimate

ESTIMATE: Estimate = estimate({}, "aembedding", 0, Prices())


class World:
    """As many requests as one process has, over a server that counts what it is asked."""

    def __init__(self, gateway: AsyncGateway) -> None:
        self.gateway = gateway
        background = Background()
        self.cache = ResponseCache(gateway, background, "litellm", ttl=60, lease=30.0, wait=20.0)
        self.calls = Calls(
            30.0, lambda call, use: self.cache.call_ended(call, failed=call.reported is None), background
        )
        self.asked = 0

    async def request(self, answers: Callable[[], Awaitable[Any]]) -> Any:
        admission = await self.gateway.admit("{litellm}:key:1", ESTIMATE.amounts())
        self.calls.begin(Call(admission, [], ESTIMATE, "acompletion", None, {}))
        found = await self.cache.async_get_cache("k")
        if found is None:
            self.asked += 1
            found = await answers()
            await self.cache.async_set_cache("k", found)
        return found


def run(work: Callable[[World], Awaitable[None]], *, fake: FakeRedis | None = None) -> World:
    async def main() -> World:
        async with AsyncGateway(fake or FakeRedis()) as gateway:
            world = World(gateway)
            await asyncio.wait_for(work(world), 30)
            return world

    return asyncio.run(main())


def test_a_stream_that_is_stored_twice_is_stored_once() -> None:
    """As LiteLLM does with some streams. The second time the fill lease is over: it could replace a newer answer."""
    fake = FakeRedis()

    async def answers() -> str:
        return "answer"

    async def work(world: World) -> None:
        assert await world.request(answers) == "answer"
        await world.cache.async_set_cache("k", "the same, later")
        assert [call[0] for call in fake.calls].count(b"GW.CACHESET") == 1
        # A request of its own stores what it has got.
        assert await asyncio.create_task(world.request(answers)) == "answer"

    assert run(work, fake=fake).asked == 1


def test_more_wait_than_there_are_connections_for_waiting() -> None:
    go = asyncio.Event()

    async def answers() -> str:
        await go.wait()
        return "answer"

    async def work(world: World) -> None:
        tasks = [asyncio.create_task(world.request(answers)) for _ in range(50)]
        while not world.asked:
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        go.set()
        assert await asyncio.gather(*tasks) == ["answer"] * 50

    assert run(work).asked == 1


def test_if_one_fails_the_next_one_asks() -> None:
    async def fails() -> str:
        raise ValueError("the provider fails")

    async def work(world: World) -> None:
        found = await asyncio.gather(*(world.request(fails) for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in found] == [ValueError] * 3

    assert run(work).asked == 3


def test_if_one_is_cancelled_the_next_one_asks() -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        return ""

    async def answers() -> str:
        return "answer"

    async def work(world: World) -> None:
        first = asyncio.create_task(world.request(never))
        while not world.asked:
            await asyncio.sleep(0)
        second = asyncio.create_task(world.request(answers))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == "answer"

    assert run(work).asked == 2
