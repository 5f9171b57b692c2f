"""The traps of the programs "before", set for the client."""

import asyncio
import sys

import redis.asyncio
from redis_gateway import AsyncGateway, Settings

PATIENT = Settings(timeout=60, connect_timeout=60, waiting_timeout=60)


async def cache_service(client, one, other):
    calls = 0

    async def model():
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.2)
        return "Hello!"

    # Two gateways stand for two processes.
    caches = [gateway.cache("chat", tenant="acme") for gateway in (one, other)]
    answers = await asyncio.gather(*(caches[at % 2].get_or_compute({"prompt": "Hi"}, model) for at in range(20)))
    assert answers == ["Hello!"] * 20 and calls == 1, calls

    # What is being computed during a clear is not stored after it, however it is cleared.
    for clear in (
        caches[0].clear,
        lambda: caches[0].clear_tag("user:1"),
        lambda: one.commands.cache_clear_pattern("chat:acme:*"),
    ):
        computing, cleared = asyncio.Event(), asyncio.Event()

        async def old(computing=computing, cleared=cleared):
            computing.set()
            await cleared.wait()
            return "from before the clear"

        request = {"prompt": "Is it true?"}
        answering = asyncio.create_task(caches[0].get_or_compute(request, old, tags=["user:1"]))
        await computing.wait()
        await clear()
        cleared.set()
        assert await answering == "from before the clear"
        assert await caches[0].get(request) is None

    # A pattern deletes entries of the cache, and nothing else of that name.
    await client.set("chat:settings", "not of the cache")
    await caches[0].set({"prompt": "Hi"}, "Hello!")
    assert await one.commands.cache_clear_pattern("chat:*") == 1
    assert await client.get("chat:settings") == b"not of the cache"


async def limiter(gateway):
    decisions = [await gateway.allow("provider", 100) for _ in range(101)]
    assert [decision.ok for decision in decisions] == [True] * 100 + [False]
    assert 0 < decisions[-1].retry_after_ms <= 60_000


async def main():
    client = redis.asyncio.Redis(port=int(sys.argv[1]), socket_timeout=60)
    async with AsyncGateway(client, PATIENT) as one, AsyncGateway(client, PATIENT) as other:
        await cache_service(client, one, other)
        await limiter(one)
    await client.aclose()


asyncio.run(main())
print("ok")
