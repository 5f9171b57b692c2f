"""What the client adds to a call: in each pair of runs redis-py itself sends the commands, then the client's method.

    python tools/overhead.py [pairs]

It starts a server of its own, as the tests do (GW_SERVER, GW_MODULE), and prints medians of the pairs.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import redis
import redis.asyncio

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("src", "tests")]

from redis_gateway import AsyncGateway, Gateway, Settings
from servers import Server

CALLS = 1_000
POLICIES = (
    '{"policies":[{"name":"rpm","kind":"window","limit":1000000000,"per_ms":60000},'
    '{"name":"tpm","kind":"bucket","rate":1000000000,"burst":1000000000,"per_ms":60000,"meter":"tokens"},'
    '{"name":"month","kind":"budget","amount":"1000000000","period":"month"}]}'
)
REQUEST = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}
# Nothing is degraded because the machine is busy: what is measured is the client.
SETTINGS = Settings(timeout=5, connect_timeout=5)

Call = Callable[[int], object]
AsyncCall = Callable[[int], Awaitable[object]]


def synchronous(port: int) -> dict[str, tuple[Call, Call]]:
    raw = redis.Redis(port=port)
    gateway = Gateway(raw, SETTINGS)
    cache = gateway.cache("overhead", tenant="ml")
    cache.get_or_compute(REQUEST, lambda: "an answer")
    entry = next(iter(raw.scan_iter("*overhead*")))

    def admit_raw(number: int) -> object:
        lease = f"{id(raw)}:{number}:{time.monotonic_ns()}"
        raw.execute_command("GW.ADMIT", "{a}:raw", "LEASE", lease, "TTL", 60_000, "tokens", 100, "usd", "0.01")
        return raw.execute_command("GW.SETTLE", "{a}:raw", "LEASE", lease, "tokens", 90, "usd", "0.009")

    def admit(_: int) -> None:
        with gateway.admit("{a}:client", {"tokens": 100, "usd": "0.01"}) as admission:
            admission.use(tokens=90, usd="0.009")

    return {
        "allow": (
            lambda n: raw.execute_command("GW.ALLOW", "raw", 10**9),
            lambda n: gateway.allow("client", 10**9),
        ),
        "admit and settle": (admit_raw, admit),
        "a cached answer": (
            lambda n: raw.execute_command("GW.CACHEGET", entry),
            lambda n: cache.get_or_compute(REQUEST, lambda: "never called"),
        ),
    }


def asynchronous(port: int) -> dict[str, tuple[AsyncCall, AsyncCall]]:
    raw = redis.asyncio.Redis(port=port)
    gateway = AsyncGateway(raw, SETTINGS)
    cache = gateway.cache("overhead", tenant="ml")
    entry = next(iter(redis.Redis(port=port).scan_iter("*overhead*")))

    async def admit_raw(number: int) -> object:
        lease = f"{id(raw)}:{number}:{time.monotonic_ns()}"
        await raw.execute_command("GW.ADMIT", "{a}:raw", "LEASE", lease, "TTL", 60_000, "tokens", 100, "usd", "0.01")
        return await raw.execute_command("GW.SETTLE", "{a}:raw", "LEASE", lease, "tokens", 90, "usd", "0.009")

    async def admit(_: int) -> None:
        async with await gateway.admit("{a}:client", {"tokens": 100, "usd": "0.01"}) as admission:
            admission.use(tokens=90, usd="0.009")

    return {
        "allow": (
            lambda n: raw.execute_command("GW.ALLOW", "raw", 10**9),
            lambda n: gateway.allow("client", 10**9),
        ),
        "admit and settle": (admit_raw, admit),
        "a cached answer": (
            lambda n: raw.execute_command("GW.CACHEGET", entry),
            lambda n: cache.get_or_compute(REQUEST, lambda: "never called"),
        ),
    }


def us_per_call(call: Call) -> float:
    start = time.perf_counter()
    for number in range(CALLS):
        call(number)
    return (time.perf_counter() - start) / CALLS * 1e6


async def us_per_async_call(call: AsyncCall) -> float:
    start = time.perf_counter()
    for number in range(CALLS):
        await call(number)
    return (time.perf_counter() - start) / CALLS * 1e6


def print_row(mode: str, name: str, pairs: list[tuple[float, float]]) -> None:
    raw, client = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(client / raw for raw, client in pairs)
    print(f"| {name} | {mode} | {raw:.0f} | {client:.0f} | {ratio:.2f} |", flush=True)


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    server = Server()
    try:
        for account in ("{a}:raw", "{a}:client"):
            server.run(f"GW.POLICYPUT {account} {POLICIES}")
        print("| call | | redis-py, µs | client, µs | ratio |\n|---|---|---:|---:|---:|")
        for name, (raw, client) in synchronous(server.port).items():
            print_row("sync", name, [(us_per_call(raw), us_per_call(client)) for _ in range(pairs)])

        async def measure() -> None:
            for name, (raw, client) in asynchronous(server.port).items():
                measured = [(await us_per_async_call(raw), await us_per_async_call(client)) for _ in range(pairs)]
                print_row("async", name, measured)

        asyncio.run(measure())
    finally:
        server.close()


if __name__ == "__main__":
    main()
