"""Many requests at a time, to all replicas in turn."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from proxies import LONG, Stack, chat_body, eventually

# With "user" these are 30 bytes, so the estimate is what the provider uses: 10 tokens of input, and 20 of output.
EXACT = "Tell me of the sea, please"


@dataclass
class Told:
    """What the clients have seen."""

    codes: Counter[int] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)
    """Seconds, of each request."""
    span: float = 0.0
    """Seconds, of all of them."""

    def kept(self, limit: int) -> bool:
        """Whether a limit for any 60 seconds was reached and kept. A busy machine takes longer than that."""
        allowed = self.codes[200]
        return allowed == limit if self.span < 60 else limit <= allowed <= limit * (1 + int(self.span // 60))

    def p99(self) -> float:
        return sorted(self.took)[int(len(self.took) * 0.99)]


def exact_body(name: str = "ok", **more: Any) -> dict[str, Any]:
    return chat_body(name, EXACT, max_tokens=20, **more)


def at_once(
    stack: Stack, key: str, count: int, body: dict[str, Any], *, meanwhile: Callable[[], None] | None = None
) -> Told:
    """All at the same time."""
    return asyncio.run(_send(stack, key, iter(range(count)), body, count, meanwhile))


def in_turns(stack: Stack, key: str, count: int, body: dict[str, Any], *, workers: int = 4) -> Told:
    """So many at a time."""
    return asyncio.run(_send(stack, key, iter(range(count)), body, workers, None))


def for_seconds(stack: Stack, key: str, seconds: float, body: dict[str, Any], *, workers: int = 4) -> Told:
    """So many at a time, for so long."""

    def numbers() -> Iterator[int]:
        end = time.monotonic() + seconds
        return itertools.takewhile(lambda _: time.monotonic() < end, itertools.count())

    return asyncio.run(_send(stack, key, numbers(), body, workers, None))


async def _send(
    stack: Stack,
    key: str,
    numbers: Iterator[int],
    body: dict[str, Any],
    workers: int,
    meanwhile: Callable[[], None] | None,
) -> Told:
    told = Told()
    all_began = time.monotonic()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=300, limits=limits) as client:

        async def work() -> None:
            for number in numbers:
                url = stack.urls[number % len(stack.urls)] + "/v1/chat/completions"
                began = time.monotonic()
                response = await client.post(url, json=body, headers={"Authorization": f"Bearer {key}"})
                await response.aread()
                told.took.append(time.monotonic() - began)
                told.codes[response.status_code] += 1

        running = [asyncio.create_task(work()) for _ in range(workers)]
        if meanwhile is not None:
            await asyncio.to_thread(meanwhile)
        await asyncio.gather(*running)
    told.span = time.monotonic() - all_began
    return told


def leave_early(stack: Stack, key: str, body: dict[str, Any]) -> None:
    """Hangs up when the provider has been asked, and has not answered."""

    async def main() -> None:
        async with httpx.AsyncClient(base_url=stack.urls[0], timeout=LONG) as client:
            headers = {"Authorization": f"Bearer {key}"}
            asking = asyncio.create_task(client.post("/v1/chat/completions", json=body, headers=headers))
            await asyncio.to_thread(eventually, lambda: stack.seen()["running"] == 1)
            asking.cancel()

    asyncio.run(main())
