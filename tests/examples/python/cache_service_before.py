import asyncio
import sys

from redis.asyncio import Redis


async def main():
    redis = Redis(port=int(sys.argv[1]), socket_timeout=60)
    cache = CacheService(redis)
    calls = 0

    async def model():
        nonlocal calls
        calls += 1
        while calls < 20:
            await asyncio.sleep(0.001)
        return "Hello!"

    # All that miss at the same moment call the model.
    assert await asyncio.gather(*(cache.answer("chat:1", model) for _ in range(20))) == ["Hello!"] * 20
    assert calls == 20
    assert await cache.answer("chat:1", model) == "Hello!" and calls == 20
    assert await cache.hit_ratio() == 1 / 21

    # What is being computed during a clear is stored after it.
    computing, cleared = asyncio.Event(), asyncio.Event()

    async def old():
        computing.set()
        await cleared.wait()
        return "from before the clear"

    answering = asyncio.create_task(cache.answer("chat:2", old))
    await computing.wait()
    assert await cache.clear("chat:*") == 1
    cleared.set()
    await answering
    assert await cache.answer("chat:2", model) == "from before the clear"

    # Whatever matches is deleted.
    await redis.set("chat:settings", "not of the cache")
    assert await cache.clear("chat:*") == 2
    assert not await redis.exists("chat:settings")
    await redis.aclose()


asyncio.run(main())
print("ok")
