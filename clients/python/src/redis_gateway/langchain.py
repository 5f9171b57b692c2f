"""LangChain's rate limiter and cache, over a gateway."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Sequence
from typing import Any

from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
from langchain_core.load import dumpd, load
from langchain_core.outputs import Generation
from langchain_core.rate_limiters import BaseRateLimiter

from ._async.gateway import AsyncGateway
from ._sync.gateway import Gateway

__all__ = ["GatewayCache", "GatewayRateLimiter"]


class GatewayRateLimiter(BaseRateLimiter):
    """A bucket that all processes share: `rate` requests every `per` seconds, and up to `burst` at once.

    With a `Gateway` it is for synchronous chains, with an `AsyncGateway` for asynchronous ones; it may have both.
    """

    def __init__(
        self,
        key: str,
        rate: int,
        burst: int,
        *,
        per: float = 60.0,
        gateway: Gateway | None = None,
        async_gateway: AsyncGateway | None = None,
    ) -> None:
        self._arguments = (key, rate, burst)
        self._per = per
        self._gateway = gateway
        self._async_gateway = async_gateway

    def acquire(self, *, blocking: bool = True) -> bool:
        if self._gateway is None:
            raise RuntimeError("a rate limiter for synchronous chains needs a Gateway")
        while True:
            decision = self._gateway.tokens(*self._arguments, per=self._per)
            if decision.ok or not blocking or decision.retry_after_ms < 0:
                return decision.ok
            time.sleep(decision.retry_after_ms / 1000)

    async def aacquire(self, *, blocking: bool = True) -> bool:
        if self._async_gateway is None:
            raise RuntimeError("a rate limiter for asynchronous chains needs an AsyncGateway")
        while True:
            decision = await self._async_gateway.tokens(*self._arguments, per=self._per)
            if decision.ok or not blocking or decision.retry_after_ms < 0:
                return decision.ok
            await asyncio.sleep(decision.retry_after_ms / 1000)


class GatewayCache(BaseCache):
    """LangChain's cache of answers. An error of the cache is a miss. `ttl` is that of `Gateway.cache`."""

    def __init__(
        self,
        *,
        gateway: Gateway | None = None,
        async_gateway: AsyncGateway | None = None,
        category: str = "langchain",
        tenant: str | None = None,
        ttl: float | None = None,
    ) -> None:
        options: dict[str, Any] = {"tenant": tenant, "ttl": ttl, "encode": encode, "decode": decode}
        self._cache = gateway.cache(category, **options) if gateway is not None else None
        self._async_cache = async_gateway.cache(category, **options) if async_gateway is not None else None

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        found: list[Generation] | None = self._sync().get(request_of(prompt, llm_string))
        return found

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        self._sync().set(request_of(prompt, llm_string), return_val)

    def clear(self, **kwargs: Any) -> None:
        self._sync().clear()

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        found: list[Generation] | None = await self._async().get(request_of(prompt, llm_string))
        return found

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        await self._async().set(request_of(prompt, llm_string), return_val)

    async def aclear(self, **kwargs: Any) -> None:
        await self._async().clear()

    def _sync(self) -> Any:
        if self._cache is None:
            raise RuntimeError("a cache for synchronous chains needs a Gateway")
        return self._cache

    def _async(self) -> Any:
        if self._async_cache is None:
            raise RuntimeError("a cache for asynchronous chains needs an AsyncGateway")
        return self._async_cache


def request_of(prompt: str, llm_string: str) -> dict[str, str]:
    # Prompts may have half of a surrogate pair in them, which no canonical form has.
    digests = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in (prompt, llm_string)]
    return {"prompt": digests[0], "llm": digests[1]}


def encode(generations: Sequence[Generation]) -> bytes:
    return json.dumps([dumpd(generation) for generation in generations], ensure_ascii=False).encode()


def decode(value: bytes) -> list[Generation]:
    return [load(generation) for generation in json.loads(value)]
