"""Slots and locks: taken, renewed in the background, and released safely."""

# The classes of this package know each other's inside.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import time
import uuid
from types import TracebackType
from typing import TYPE_CHECKING

from .. import _commands as low
from .._commands import Request, requests
from .._errors import GatewayError, Unblocked
from ..decisions import LockLost, Outcome
from ..deliveries import Delivery
from ..failures import Unavailable
from ..lifetime import Owned
from ..local import share
from . import _runtime as runtime
from .core import AsyncCore
from .keeper import AsyncKeeper, milliseconds

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AsyncLocks", "AsyncSlot"]


class AsyncSlot(Owned):
    """One of the slots of a key, or no slot. With one slot in all it is a lock.

    As a context it is released at the end. It is renewed every third of its time until then.
    """

    def __init__(self, core: AsyncCore, key: str, most: int, ttl: float) -> None:
        super().__init__()
        self._core = core
        self._ended = False
        self._mutex = runtime.Mutex()
        self.key = key
        self.max = most
        self.ttl = ttl
        self.holder = uuid.uuid4().hex
        """The name under which it is taken, new for each."""
        self.keep_until = float("inf")
        self.outcome: Outcome = "denied"
        self.reason = ""
        self.in_use = 0
        self.retry_after_ms = 0
        self.fencing_token = 0
        """Larger than those of all grants before it; 0 without a slot, and while the server is away."""
        self._lost = runtime.Event()

    @property
    def ok(self) -> bool:
        """Whether there was a slot."""
        return self.outcome != "denied"

    @property
    def lost(self) -> bool:
        """It is not known any more that the slot is still taken: somebody else may have it."""
        return self._lost.is_set() or (self.outcome == "admitted" and time.monotonic() > self._live_until)

    _live_until = 0.0

    def check(self) -> None:
        """Raises LockLost if the slot was lost, or never taken."""
        if not self.ok or self.lost:
            raise LockLost(self.reason or "lost")

    async def until_lost(self, seconds: float | None = None) -> bool:
        """Waits until the slot is lost, and tells whether it is. For a task that stops the work then."""
        end = time.monotonic() + seconds if seconds is not None else None
        while not self.lost:
            now = time.monotonic()
            if end is not None and now >= end:
                return False
            # Without a reply of the server nobody sets the event: the time for which it is held ends by itself.
            until = [moment for moment in (end, self._live_until if self.outcome == "admitted" else None) if moment]
            # A moment more, so that the time has passed for certain.
            await self._lost.wait(max(0.0, min(until) - now) + 0.001 if until else None)
        return True

    async def release(self) -> bool:
        """Gives it back. Whether it was still taken, as far as is known."""
        if not self.mine:
            return False
        with self._mutex:
            first, self._ended = not self._ended, True
        if not first or not self.ok:
            return False
        if self.outcome == "degraded":
            self._core.slots.free(self.key, self.holder)
            return True
        return await self._core.tasks.to_the_end(self._release)

    async def _release(self) -> bool:
        asked = requests.release(self.key, self.holder)
        # It ends by itself; if the server cannot be told now, but earlier than that, it is told then.
        later = Delivery(list(asked.args))
        try:
            return await self._core.run(asked)
        except Unavailable as error:
            later.first_sent = time.time() if error.sent else None
            self._core.keep(later)
            return not self.lost
        except GatewayError:
            raise
        except BaseException:
            later.first_sent = time.time()
            self._core.store(later)
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        await self.release()
        return None

    # What keeps it alive.

    def keep_alive_requests(self) -> list[Request[bool]]:
        if self._ended:
            return []
        self._asked_at = time.monotonic()
        return [requests.renew(self.key, self.holder, ttl_ms=milliseconds(self.ttl))]

    _asked_at = 0.0

    def kept_alive(self, live: bool) -> None:
        if live:
            self._live_until = self._asked_at + self.ttl
        elif not self._ended:
            self._lost.set()
            self._core.telemetry.count("locks_lost")


class AsyncLocks:
    def __init__(self, core: AsyncCore, keeper: AsyncKeeper) -> None:
        self._core = core
        self._keeper = keeper

    async def acquire(self, key: str, most: int, *, ttl: float, wait: float, renew: bool, lock: bool) -> AsyncSlot:
        slot = AsyncSlot(self._core, key, most, ttl)
        try:
            # Whoever leaves while it is asked for must not keep it.
            await self._core.tasks.to_the_end(self._ask, slot, wait, lock)
        except BaseException:
            slot._ended = True
            if slot.outcome != "degraded":
                self._core.keep(Delivery(list(requests.release(key, slot.holder).args)))
            raise
        self._core.telemetry.decided("locks" if lock else "slots", slot.outcome, slot.reason)
        if renew and slot.outcome == "admitted":
            self._keeper.add(slot)
        return slot

    async def _ask(self, slot: AsyncSlot, wait: float, lock: bool) -> None:
        end = time.monotonic() + wait
        # A part of the wait: so the connection's time-out tells in time that the server is away.
        longest = self._core.settings.waiting_timeout * 0.8
        while True:
            left = end - time.monotonic()
            asked_at = time.monotonic()
            try:
                answer = await self._once(slot, min(left, longest) if left > 0 else 0.0)
            except Unavailable as error:
                if left > 0 and not error.down and error.reason != "connections":
                    await runtime.sleep(min(left, 0.05))
                    continue
                self._decide_alone(slot, lock, error)
                return
            slot.in_use, slot.retry_after_ms, slot.fencing_token = (
                answer.in_use,
                answer.retry_after_ms,
                answer.fencing_token,
            )
            if answer.acquired:
                slot._live_until = asked_at + slot.ttl
                # Of a grant after a wait it is not known when it came: from now on the time is.
                if left > 0 and not await self._renewed(slot):
                    continue
                slot.outcome, slot.reason = "admitted", ""
                if slot._ended:  # Whoever asked has left meanwhile.
                    self._core.keep(Delivery(list(requests.release(slot.key, slot.holder).args)))
                return
            slot.reason = "limit"
            if left <= 0 or answer.retry_after_ms < 0 or slot._ended or self._core.closed:
                return

    async def _renewed(self, slot: AsyncSlot) -> bool:
        """Whether it is still held, as far as is known."""
        asked_at = time.monotonic()
        try:
            held = await self._core.run(requests.renew(slot.key, slot.holder, ttl_ms=milliseconds(slot.ttl)))
        except Unavailable:
            return True
        slot._live_until = asked_at + slot.ttl
        return held

    async def _once(self, slot: AsyncSlot, wait: float) -> low.Slot:
        ttl_ms = milliseconds(slot.ttl)
        if wait <= 0:
            return await self._core.run(requests.acquire(slot.key, slot.max, slot.holder, ttl_ms=ttl_ms))
        asked = requests.acquire(slot.key, slot.max, slot.holder, ttl_ms=ttl_ms, block_ms=milliseconds(wait))
        try:
            return await self._core.transport.wait(asked)
        except Unavailable as error:
            if error.reason != "connections":
                raise
            # All connections on which calls wait are taken: it asks now and then instead.
            await runtime.sleep(min(wait, 0.1))
            return await self._once(slot, 0.0)
        except Unblocked:
            return await self._once(slot, 0.0)

    def _decide_alone(self, slot: AsyncSlot, lock: bool, error: Unavailable) -> None:
        mode = "closed" if lock else self._core.settings.away.slots
        slot.reason = error.reason
        if error.sent:
            self._core.keep(Delivery(list(requests.release(slot.key, slot.holder).args)))
        if mode == "open":
            slot.outcome = "degraded"
        elif mode == "local":
            own = share(slot.max, self._core.settings.instances)
            taken, in_use, retry_after_ms = self._core.slots.take(slot.key, own, slot.holder, slot.ttl)
            slot.in_use, slot.retry_after_ms = in_use, retry_after_ms
            slot.outcome = "degraded" if taken else "denied"
            slot.reason = error.reason if taken else "local_limit"
        else:
            slot.retry_after_ms = milliseconds(self._core.settings.pause)
