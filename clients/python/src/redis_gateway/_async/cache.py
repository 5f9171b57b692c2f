"""The response cache: one computation for all who ask for the same, in this process and in all others."""

# The classes of this package know each other's inside.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import copy
import logging
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Generic, TypeVar

from .._commands import Amount, CacheAnswer, CacheFigures, cache_key, requests
from .._errors import GatewayError, Unblocked
from ..failures import Unavailable
from ..lifetime import Owned
from . import _runtime as runtime
from .core import AsyncCore
from .keeper import milliseconds

__all__ = ["AsyncCache", "AsyncStreamCache"]

T = TypeVar("T")
log = logging.getLogger("redis_gateway")


class Flight(Owned):
    """A computation that others in this process wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.done = runtime.Event()
        self.encoded: bytes | None = None
        """The answer as it is stored, so that each caller gets one of its own; None if there is none."""


class Fetched(Owned):
    """What the server has said of a key, to a call of this name."""

    __slots__ = ("abandoned", "answer", "answered", "asked", "holder", "token")

    def __init__(self, token: int = 0) -> None:
        super().__init__()
        self.answer: CacheAnswer | None = None
        self.holder = uuid.uuid4().hex
        self.token = token
        """That of the fill lease; 0 without one."""
        self.asked = False
        """No reply has come: the server may have given the fill lease."""
        self.answered = False
        """Nothing is being asked any more."""
        self.abandoned = False
        """Whoever asked has left."""


class AsyncCache(Generic[T]):
    def __init__(
        self,
        core: AsyncCore,
        category: str,
        *,
        tenant: str | None,
        ttl: float,
        stale: float,
        lease: float,
        wait: float,
        ignore: Iterable[str],
        computing: int,
        encode: Callable[[T], bytes],
        decode: Callable[[bytes], T],
    ) -> None:
        self._core = core
        self._most_computing = computing
        self._computing = runtime.Places(computing)
        self._mutex = runtime.Mutex()
        self._flights: dict[str, Flight] = {}
        self._ttl = ttl
        self._stale = stale
        self._lease = lease
        self._wait = wait
        self._ignore = tuple(ignore)
        self._encode = encode
        self._decode = decode
        self.category = category
        self.tenant = tenant

    def key(self, request: object) -> str:
        """The key of a request: the same in all languages, and never that of another tenant."""
        return cache_key(self.category, request, tenant=self.tenant, ignore=self._ignore)

    def after_fork(self) -> None:
        """In the child: what is being computed is computed in the parent, and would never end here."""
        self._mutex = runtime.Mutex()
        self._flights = {}
        self._computing = runtime.Places(self._most_computing)

    async def get_or_compute(
        self,
        request: object,
        compute: Callable[[], Awaitable[T]],
        *,
        tags: Iterable[str] = (),
        saved: Amount | None = None,
    ) -> T:
        """The cached answer to a request, or else the computed one, which is stored.

        Of all who ask for it at the same time, one computes, and the others get its answer, each as an object of its
        own. If it fails, or its answer cannot be encoded, the next one computes. A stale answer is returned at once,
        and refreshed in the background. While the server is away, it computes. `tags`: names under which entries are
        cleared. `saved`: what each hit saves, such as the price of the call.
        """
        key = self.key(request)
        end = time.monotonic() + self._wait
        while True:
            flight, leads = self._flight(key)
            if leads:
                try:
                    return await self._lead(key, flight, compute, tuple(tags), saved, end)
                finally:
                    self._landed(key, flight)
            if not await flight.done.wait(max(0.0, end - time.monotonic())):
                self._core.telemetry.count("cache", result="wait_timeout")
                return await compute()
            found = self._coalesced(flight)
            if found:
                return found[0]

    def _flight(self, key: str) -> tuple[Flight, bool]:
        """The computation of a key, and whether it is the caller's."""
        with self._mutex:
            flight = self._flights.get(key)
            if flight is not None:
                return flight, False
            flight = self._flights[key] = Flight()
            return flight, True

    def _landed(self, key: str, flight: Flight) -> None:
        """It has ended. What a child was forked from in the middle of it does not end in the child."""
        if flight.mine:
            with self._mutex:
                self._flights.pop(key, None)
            flight.done.set()

    def _coalesced(self, flight: Flight) -> list[T]:
        """The answer of another caller's computation, as an object of this caller's own; or nothing."""
        found = self._decoded(flight.encoded) if flight.encoded is not None else []
        if found:
            self._core.telemetry.count("cache", result="coalesced")
        return found

    async def _lead(
        self,
        key: str,
        flight: Flight,
        compute: Callable[[], Awaitable[T]],
        tags: tuple[str, ...],
        saved: Amount | None,
        end: float,
    ) -> T:
        fetched = await self._fetch(key, end)
        answer = fetched.answer
        if answer is not None and answer.value is not None:
            found = self._decoded(answer.value)
            if found:
                flight.encoded = answer.value
                if answer.token:
                    self._core.tasks.start(self._refresh, key, compute, answer.token, tags, saved)
                return found[0]
        try:
            value = await (compute() if answer is not None else self._compute_alone(compute, end))
        except BaseException:
            await self._give_up(key, fetched)
            raise
        flight.encoded = self._encoded(value)
        await self._core.tasks.to_the_end(self._keep, key, flight.encoded, fetched, tags, saved)
        return value

    async def _compute_alone(self, compute: Callable[[], Awaitable[T]], end: float) -> T:
        """Without the cache all misses come together: a bounded number is computed at a time."""
        places = self._computing
        placed = await places.take(max(0.0, end - time.monotonic()))
        try:
            return await compute()
        finally:
            # In a child that was forked meanwhile they are others.
            if placed and places is self._computing:
                places.free()

    async def _keep(
        self, key: str, encoded: bytes | None, fetched: Fetched, tags: tuple[str, ...], saved: Amount | None
    ) -> None:
        """Stores it, if the server has given the right to. Whoever has computed a value gets it, also if it cannot be
        stored."""
        if not fetched.mine:
            return
        answer = fetched.answer
        if answer is None and fetched.asked and not await self._try_again(key, fetched):
            self._core.tasks.start(self._release_later, key, fetched)
            return
        if fetched.token or (answer is not None and answer.state != "PENDING"):
            await self._store(key, encoded, fetched, tags, saved)

    async def _try_again(self, key: str, fetched: Fetched) -> bool:
        """The reply was lost. Under the same name the lease can be had again. Whether it is known now."""
        try:
            answer = await self._asked(key, fetched.holder, 0.0)
        except Unavailable:
            return False
        except GatewayError:
            answer = None
        fetched.asked = False
        fetched.token = answer.token if answer is not None else 0
        return True

    async def _refresh(
        self, key: str, compute: Callable[[], Awaitable[T]], token: int, tags: tuple[str, ...], saved: Amount | None
    ) -> None:
        fetched = Fetched(token)
        try:
            value = await compute()
        except BaseException as error:
            self._core.telemetry.count("cache", result="refresh_failed")
            log.warning("a cached answer could not be refreshed: %s", type(error).__name__)
            await self._give_up(key, fetched)
            if not isinstance(error, Exception):
                raise
            return
        await self._keep(key, self._encoded(value), fetched, tags, saved)

    # The server. An error of the cache is a miss.

    async def _fetch(self, key: str, end: float) -> Fetched:
        """What the server says; no answer if it is away, or says that it cannot be asked for this key."""
        fetched = Fetched()
        try:
            # To the end, even if whoever asks is cancelled: the reply may bring a lease, which nobody else can give up.
            await self._core.tasks.to_the_end(self._ask, key, fetched, end)
        except BaseException:
            fetched.abandoned = True
            if fetched.answered:
                await self._give_up(key, fetched)
            raise
        return fetched

    async def _ask(self, key: str, fetched: Fetched, end: float) -> None:
        try:
            await self._ask_until(key, fetched, end)
        finally:
            fetched.answered = True
        if fetched.abandoned:
            await self._give_up(key, fetched)

    async def _ask_until(self, key: str, fetched: Fetched, end: float) -> None:
        telemetry = self._core.telemetry
        fetched.asked = True
        try:
            answer = await self._asked(key, fetched.holder, 0.0)
            while answer.state == "PENDING" and not fetched.abandoned and (left := end - time.monotonic()) > 0:
                # A part of the wait: so the connection's time-out tells in time that the server is away.
                answer = await self._asked(key, fetched.holder, min(left, self._core.settings.waiting_timeout * 0.8))
        except Unavailable as error:
            fetched.asked = error.sent
            telemetry.count("cache", result="away", reason=error.reason)
            return
        except GatewayError as error:
            fetched.asked = False
            telemetry.count("cache", result="error")
            log.warning("the cache refuses to answer: %s", type(error).__name__)
            return
        fetched.asked = False
        fetched.answer, fetched.token = answer, answer.token
        telemetry.count("cache", result=answer.state.lower())

    async def _asked(self, key: str, holder: str, wait: float) -> CacheAnswer:
        lease_ms = milliseconds(self._lease)
        at_once = requests.cache_lease(key, lease_ms=lease_ms, holder=holder)
        if wait <= 0:
            return await self._core.run(at_once)
        try:
            return await self._core.transport.wait(
                requests.cache_lease(key, lease_ms=lease_ms, holder=holder, wait_ms=milliseconds(wait))
            )
        except Unavailable as error:
            if error.reason != "connections":
                raise
            # All connections on which calls wait are taken: it asks now and then instead.
            await runtime.sleep(min(wait, 0.1))
        except Unblocked:
            pass
        return await self._core.run(at_once)

    def _encoded(self, value: T) -> bytes | None:
        try:
            return self._encode(value)
        except Exception as error:
            self._core.telemetry.count("cache", result="not_encoded")
            log.error("an answer cannot be cached: %s", type(error).__name__)
            return None

    async def _store(
        self, key: str, encoded: bytes | None, fetched: Fetched, tags: tuple[str, ...], saved: Amount | None
    ) -> None:
        """If it cannot be stored, the fill lease is given up: others must not wait until it ends by itself."""
        if encoded is None:
            await self._give_up(key, fetched)
            return
        try:
            await self._set(key, encoded, fetched.token, tags, saved)
        except (Unavailable, GatewayError) as error:
            self._core.telemetry.count("cache", result="not_stored")
            log.debug("an answer was not cached: %s", type(error).__name__)
            await self._give_up(key, fetched)
        except BaseException:
            await self._give_up(key, fetched)
            raise

    async def _set(self, key: str, encoded: bytes, token: int, tags: tuple[str, ...], saved: Amount | None) -> None:
        await self._core.run(
            requests.cache_set(
                key,
                encoded,
                px_ms=milliseconds(self._ttl),
                stale_ms=milliseconds(self._stale) if self._stale > 0 else None,
                tags=tags or None,
                saved=saved,
                token=token or None,
            )
        )

    async def _give_up(self, key: str, fetched: Fetched) -> None:
        """The next one who waits computes."""
        if not fetched.mine:
            return
        if fetched.token or fetched.asked:
            await self._core.tasks.to_the_end(self._release, key, fetched)

    async def _release(self, key: str, fetched: Fetched) -> None:
        if not await self._released(key, fetched):
            self._core.telemetry.count("cache", result="not_released")
            self._core.tasks.start(self._release_later, key, fetched)

    async def _released(self, key: str, fetched: Fetched) -> bool:
        """Whether the server has taken it. A token that was used meanwhile releases nothing."""
        if fetched.asked and not await self._try_again(key, fetched):
            return False
        try:
            if fetched.token:
                await self._core.run(requests.cache_release(key, fetched.token))
        except Unavailable:
            return False
        except GatewayError as error:
            log.warning("a fill lease could not be given up: %s", type(error).__name__)
        return True

    async def _release_later(self, key: str, fetched: Fetched) -> None:
        """The server is away. If it is back before the lease has ended by itself, it is told."""
        end = time.monotonic() + self._lease
        while time.monotonic() < end and not await self._core.closing.wait(self._core.settings.kept.every):
            if await self._released(key, fetched):
                return

    def _decoded(self, value: bytes) -> list[T]:
        """None if it is of another form than this program's, such as that of an older version."""
        try:
            return [self._decode(value)]
        except Exception as error:
            self._core.telemetry.count("cache", result="not_decoded")
            log.warning("a cached answer cannot be read: %s", type(error).__name__)
            return []

    # Entries.

    async def get(self, request: object, default: T | None = None) -> T | None:
        """The cached answer, fresh or stale, or else the default. It computes nothing and asks for no lease."""
        try:
            value = await self._core.run(requests.cache_get(self.key(request)))
        except Unavailable as error:
            self._core.telemetry.count("cache", result="away", reason=error.reason)
            return default
        except GatewayError as error:
            self._core.telemetry.count("cache", result="error")
            log.warning("the cache refuses to answer: %s", type(error).__name__)
            return default
        found = self._decoded(value) if value is not None else []
        self._core.telemetry.count("cache", result="hit" if found else "miss")
        return found[0] if found else default

    async def set(self, request: object, value: T, *, tags: Iterable[str] = (), saved: Amount | None = None) -> None:
        """Stores an answer; if the server is away or refuses, it is not stored, and that is counted. Raises what
        `encode` raises."""
        key, encoded = self.key(request), self._encode(value)
        try:
            await self._set(key, encoded, 0, tuple(tags), saved)
        except (Unavailable, GatewayError) as error:
            self._core.telemetry.count("cache", result="not_stored")
            log.debug("an answer was not cached: %s", type(error).__name__)

    async def delete(self, request: object) -> bool:
        """Whether there was an entry. Raises Unavailable if the server is away."""
        return await self._core.run(requests.cache_del(self.key(request))) > 0

    async def clear_tag(self, tag: str) -> int:
        """Clears all entries with the tag, of all categories. Raises Unavailable if a server is away."""
        return sum(await self._core.transport.everywhere(requests.cache_clear_tag(tag)))

    async def clear(self) -> int:
        """Clears the category, of all tenants. Raises Unavailable if a server is away."""
        return sum(await self._core.transport.everywhere(requests.cache_clear_category(self.category)))

    async def figures(self) -> list[CacheFigures]:
        """Hits, misses and what was saved, of each server."""
        found = await self._core.transport.everywhere(requests.cache_stats_category(self.category))
        return [figures for figures in found if figures is not None]


class AsyncStreamCache(Generic[T]):
    """A cache of answers that come in pieces. An answer is stored when it is complete, and replayed piece by piece."""

    def __init__(self, cache: AsyncCache[list[T]]) -> None:
        self._cache = cache

    async def stream(
        self,
        request: object,
        compute: Callable[[], AsyncIterable[T]],
        *,
        tags: Iterable[str] = (),
        saved: Amount | None = None,
    ) -> AsyncIterator[T]:
        """The pieces of the cached answer, or else those that are computed, as they come.

        Who asks for the same meanwhile gets the pieces when the answer is complete. If it is broken off, the next one
        computes.
        """
        cache, key = self._cache, self._cache.key(request)
        end = time.monotonic() + cache._wait
        while True:
            flight, leads = cache._flight(key)
            if leads:
                break
            if not await flight.done.wait(max(0.0, end - time.monotonic())):
                async with runtime.closing_source(compute()) as pieces:
                    async for piece in pieces:
                        yield piece
                return
            coalesced = cache._coalesced(flight)
            if coalesced:
                for piece in coalesced[0]:
                    yield piece
                return
        try:
            async with runtime.closing_source(self._lead(key, compute, tuple(tags), saved, end, flight)) as led:
                async for piece in led:
                    yield piece
        finally:
            cache._landed(key, flight)

    async def _lead(
        self,
        key: str,
        compute: Callable[[], AsyncIterable[T]],
        tags: tuple[str, ...],
        saved: Amount | None,
        end: float,
        flight: Flight,
    ) -> AsyncIterator[T]:
        cache = self._cache
        fetched = await cache._fetch(key, end)
        answer = fetched.answer
        found = cache._decoded(answer.value) if answer is not None and answer.value is not None else []
        if answer is not None and found:
            flight.encoded = answer.value
            if answer.token:
                cache._core.tasks.start(cache._refresh, key, collecting(compute), answer.token, tags, saved)
            for piece in found[0]:
                yield piece
            return
        complete = False
        collected: list[T] = []
        try:
            async with runtime.closing_source(compute()) as pieces:
                async for piece in pieces:
                    collected.append(copied(piece))
                    yield piece
            complete = True
        finally:
            if not complete:
                await cache._give_up(key, fetched)
        flight.encoded = cache._encoded(collected)
        await cache._core.tasks.to_the_end(cache._keep, key, flight.encoded, fetched, tags, saved)


def copied(piece: T) -> T:
    """The caller may change what it gets: what is stored stays as the model has sent it."""
    try:
        return copy.deepcopy(piece)
    except Exception:
        return piece  # Such as one with a lock in it, of which there can be no other.


def collecting(compute: Callable[[], AsyncIterable[T]]) -> Callable[[], Awaitable[list[T]]]:
    async def collect() -> list[T]:
        async with runtime.closing_source(compute()) as pieces:
            collected: list[T] = []
            async for piece in pieces:
                collected.append(piece)
            return collected

    return collect
