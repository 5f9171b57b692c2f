"""What differs between the asynchronous and the synchronous tests. Its twin is ../_sync/_runtime.py."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio

from redis_gateway import AsyncGateway, Settings
from servers import Server

sleep = asyncio.sleep

# Long enough for a busy machine. Tests about time-outs have their own.
PATIENT = Settings(timeout=10.0, connect_timeout=10.0, waiting_timeout=20.0)


def aio_client(port: int, **options: Any) -> Any:
    return redis.asyncio.Redis(port=port, **options)


@asynccontextmanager
async def gateway_of(client: Any, settings: Settings = PATIENT, **options: Any) -> AsyncIterator[AsyncGateway]:
    gateway = AsyncGateway(client, settings, **options)
    try:
        yield gateway
    finally:
        await gateway.aclose()
        await close_client(client)


async def close_client(client: Any) -> None:
    await getattr(client, "aclose", client.close)()


def gateway_on(port: int, settings: Settings = PATIENT, **options: Any) -> Any:
    return gateway_of(aio_client(port), settings, **options)


async def together(*works: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Runs them at the same time. What one raises is its result."""
    return await asyncio.gather(*(work() for work in works), return_exceptions=True)


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < end, "it did not come true"
        await asyncio.sleep(0.01)


def interruptible(gateway: AsyncGateway) -> None:
    """Tasks are cancelled by the event loop, wherever they wait."""


async def broken_off(dice: random.Random, work: Callable[..., Awaitable[Any]], *args: Any) -> None:
    """Runs it, and cancels it at a random moment, or never."""
    task = asyncio.ensure_future(work(*args))
    if dice.random() < 0.6:
        await asyncio.sleep(dice.random() * 0.02)
        task.cancel()
        if dice.random() < 0.3:  # Again, while it is ending.
            await asyncio.sleep(dice.random() * 0.002)
            task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()


def aio_cluster(servers: list[Server]) -> Any:
    return redis.asyncio.RedisCluster(host="127.0.0.1", port=servers[0].port)


def aio_sentinel(name: str, *ports: int) -> Any:
    return redis.asyncio.Sentinel([("127.0.0.1", port) for port in ports]).master_for(name)


async def in_thread(work: Callable[..., Any], *args: Any) -> Any:
    """Beside the event loop, which goes on meanwhile."""
    return await asyncio.to_thread(work, *args)
