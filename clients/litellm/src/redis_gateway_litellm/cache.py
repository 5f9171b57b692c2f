"""LiteLLM's response cache in the module: of all who ask for the same at the same time, in all replicas, one asks the
provider."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from typing import Any

from litellm.caching.base_cache import BaseCache

from redis_gateway import AsyncGateway, GatewayError, Unavailable

from .background import Background
from .calls import Call, current_call

__all__ = ["Fill", "ResponseCache", "install_cache"]

log = logging.getLogger("redis_gateway_litellm")

CATEGORY = "litellm"
PIECE_MS = 4_000
# LiteLLM stores the answer to a stream a moment after the request has ended.
STORED_WITHIN_S = 2.0


class Fill:
    """What a request knows of a key: under its name, asking again gets the same fill lease again, so that a retry does
    not wait for its own request."""

    __slots__ = ("flight", "holder", "stored", "token")

    def __init__(self) -> None:
        self.holder = uuid.uuid4().hex
        self.token = 0
        self.stored = False
        self.flight: asyncio.Future[bytes | None] | None = None
        """While it asks, and while it computes: what the others of this process wait for. None if there is no answer,
        so that the next one asks; cancelled if the cache is away, so that each computes."""

    def landed(self, value: bytes | None) -> None:
        if self.flight is not None and not self.flight.done():
            self.flight.set_result(value)


class ResponseCache(BaseCache):
    """What LiteLLM's `litellm.cache` keeps its answers in."""

    def __init__(
        self, gateway: AsyncGateway, background: Background, prefix: str, *, ttl: int, lease: float, wait: float
    ) -> None:
        super().__init__(default_ttl=ttl)
        self._gateway = gateway
        self._background = background
        self._prefix = prefix
        self._lease_ms = round(lease * 1000)
        self._wait = wait
        self._flights: dict[str, asyncio.Future[bytes | None]] = {}
        """By key. One of a process asks the server, and waits there: the connections for that are few."""

    def _name(self, key: object) -> str:
        return f"{self._prefix}:cache:{key}"

    async def async_get_cache(self, key: Any, **kwargs: Any) -> Any:
        """The answer, or None: then whoever asks computes it. An error of the cache is a miss."""
        call = current_call()
        if call is not None and call.away is not None:
            return None
        try:
            if call is None or call.settling:
                value = await self._gateway.commands.cache_fetch(self._name(key), category=CATEGORY)
            else:
                value = await self._get_or_lead(call, self._name(key))
            return json.loads(value) if value is not None else None
        except (Unavailable, GatewayError, ValueError) as error:
            log.debug("the cache was not asked: %s", type(error).__name__)
            if call is not None and isinstance(error, Unavailable):
                call.found_away(error.reason)
            return None

    async def _get_or_lead(self, call: Call, name: str) -> bytes | None:
        fill = call.fills.setdefault(name, Fill())
        end = time.monotonic() + self._wait
        while (flight := self._flights.get(name)) is not None and flight is not fill.flight:
            await asyncio.wait((flight,), timeout=max(0.0, end - time.monotonic()))
            if flight.cancelled():
                raise Unavailable("cache", sent=False)
            if not flight.done():
                return None
            if (found := flight.result()) is not None:
                return found
        if fill.flight is None or fill.flight.done():
            fill.flight = self._take_off(name)
        try:
            value = await self._ask(fill, name, end)
        except Unavailable:
            fill.flight.cancel()
            raise
        except GatewayError:
            fill.landed(None)
            raise
        except asyncio.CancelledError:
            # The server may have given the lease meanwhile. Under the same name it can be had again, and given up.
            self._background.start(self._give_up_unknown(name, fill))
            raise
        if value is not None or not fill.token:
            fill.landed(value)
        return value

    def _take_off(self, name: str) -> asyncio.Future[bytes | None]:
        flight: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._flights[name] = flight

        def ended(_: object) -> None:
            if self._flights.get(name) is flight:
                del self._flights[name]

        flight.add_done_callback(ended)
        return flight

    async def _ask(self, fill: Fill, name: str, end: float) -> bytes | None:
        commands = self._gateway.commands
        answer = await commands.cache_lease(name, lease_ms=self._lease_ms, holder=fill.holder, category=CATEGORY)
        while answer.state == "PENDING" and (left_ms := round((end - time.monotonic()) * 1000)) > 0:
            wait_ms = min(left_ms, PIECE_MS)
            answer = await commands.cache_lease(
                name, lease_ms=self._lease_ms, holder=fill.holder, wait_ms=wait_ms, category=CATEGORY
            )
        fill.token = answer.token
        return answer.value

    async def _give_up_unknown(self, name: str, fill: Fill) -> None:
        try:
            answer = await self._gateway.commands.cache_lease(name, lease_ms=self._lease_ms, holder=fill.holder)
            fill.token = answer.token
            await self._give_up(name, fill)
        except (Unavailable, GatewayError) as error:
            log.debug("a fill lease was not given up: %s", type(error).__name__)
        finally:
            fill.landed(None)

    async def async_set_cache(self, key: Any, value: Any, **kwargs: Any) -> None:
        name, call = self._name(key), current_call()
        fill = call.fills.get(name) if call is not None else None
        if fill is not None and fill.stored:
            return  # LiteLLM stores some streams twice.
        token = fill.token if fill is not None else 0
        try:
            encoded = json.dumps(value, default=str).encode()
            ttl_ms = max(1, round(float(self.get_ttl(**kwargs) or self.default_ttl) * 1000))
            await self._gateway.commands.cache_set(name, encoded, px_ms=ttl_ms, category=CATEGORY, token=token or None)
        except (Unavailable, GatewayError, ValueError) as error:
            log.debug("an answer was not cached: %s", type(error).__name__)
            return
        if fill is not None:
            fill.stored, fill.token = True, 0
            fill.landed(encoded)

    async def async_set_cache_pipeline(self, cache_list: Any, **kwargs: Any) -> None:
        for key, value in cache_list:
            await self.async_set_cache(key, value, **kwargs)

    def call_ended(self, call: Call, failed: bool) -> None:
        """Those who wait for an answer that does not come ask by themselves."""
        for name, fill in call.fills.items():
            if fill.token and not fill.stored:
                self._background.start(self._give_up_later(name, fill, 0.0 if failed else STORED_WITHIN_S))
            else:
                fill.landed(None)

    async def _give_up_later(self, name: str, fill: Fill, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._give_up(name, fill)

    async def _give_up(self, name: str, fill: Fill) -> None:
        token, fill.token = fill.token, 0
        try:
            if token and not fill.stored:
                await self._gateway.commands.cache_release(name, token)
        except (Unavailable, GatewayError) as error:
            log.debug("a fill lease was not given up: %s", type(error).__name__)
        finally:
            fill.landed(None)

    # LiteLLM's synchronous calls do not reach a proxy's requests.

    def get_cache(self, key: Any, **kwargs: Any) -> None:
        return None

    def set_cache(self, key: Any, value: Any, **kwargs: Any) -> None:
        return None

    async def disconnect(self) -> None:
        """The connections are the gateway's."""

    async def test_connection(self) -> dict[str, str]:
        health = await self._gateway.health()
        return {"status": "success" if health.ok else "failed", "message": health.reason or "the server answers"}


def install_cache(cache: ResponseCache) -> bool:
    """Puts it in the place of what `litellm_settings.cache_params` has made."""
    import litellm

    if litellm.cache is None:
        log.warning("redis_gateway.cache is on, but LiteLLM's own cache is off: set litellm_settings.cache: true")
        return False
    litellm.cache.cache = cache
    return True
