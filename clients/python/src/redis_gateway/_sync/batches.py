# Generated from ../_async/batches.py by tools/unasync.py. Do not edit.
"""Batches of a log queue for whoever works on them: leased, renewed in the background, and acknowledged or given
back."""

# The classes of this package know each other's inside.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from .. import _commands as low
from .._commands import Request, requests
from ..deliveries import Delivery
from ..failures import Unavailable
from ..lifetime import Owned
from . import _runtime as runtime
from .core import Core
from .keeper import Keeper, milliseconds

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Batches", "LogBatch"]


class LogBatch(Owned):
    """Records that are leased to this program, or none.

    As a context it is acknowledged at the end, or given back if the block raises. It is renewed every third of its time
    until then. With the number of its delivery it says so of its own lease only: once that has ended, and the records
    were delivered to another program, nothing that is said here concerns them.
    """

    def __init__(self, core: Core, key: str, ttl: float, retry_after: float) -> None:
        super().__init__()
        self._core = core
        self._ended = False
        self._mutex = runtime.Mutex()
        self._retry_after = retry_after
        self.key = key
        self.ttl = ttl
        self.keep_until = float("inf")
        self.records: tuple[bytes, ...] = ()
        """Oldest first."""
        self.batch_id = ""
        """The same in every delivery."""
        self.delivery = 0
        """The number of this delivery, 1 the first time; 0 without records."""
        self._lost = False
        self._live_until = 0.0
        self._asked_at = 0.0

    @property
    def ok(self) -> bool:
        """Whether there were records."""
        return bool(self.records)

    @property
    def lost(self) -> bool:
        """It is not known any more that the records are still leased: they may be delivered to another program."""
        return self._lost or (self.ok and time.monotonic() > self._live_until)

    def acknowledge(self) -> bool:
        """The work is done: the records are removed. Whether they were still leased, as far as is known. If the server
        is away, it is told later."""
        return self._end(requests.log_ack(self.key, self.batch_id, delivery=self.delivery))

    def give_back(self, retry_after: float | None = None) -> bool:
        """The records are delivered again after so many seconds, or become a dead letter if this was the last delivery.
        Whether they were still leased, as far as is known."""
        seconds = self._retry_after if retry_after is None else retry_after
        asked = requests.log_nack(self.key, self.batch_id, delay_ms=round(seconds * 1000), delivery=self.delivery)
        return self._end(asked)

    def _end(self, asked: Request[bool]) -> bool:
        if not self.mine or not self.ok:
            return False
        with self._mutex:
            first, self._ended = not self._ended, True
        if not first:
            return False
        told = self._core.tasks.to_the_end(self._core.tell, asked)
        return not self.lost if told is None else told

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        (self.acknowledge() if error is None else self.give_back())
        return None

    # What keeps it alive.

    def keep_alive_requests(self) -> list[Request[bool]]:
        if self._ended:
            return []
        self._asked_at = time.monotonic()
        return [self._extension()]

    def _extension(self) -> Request[bool]:
        return requests.log_extend(self.key, self.batch_id, lease_ms=milliseconds(self.ttl), delivery=self.delivery)

    def kept_alive(self, live: bool) -> None:
        if live:
            self._live_until = self._asked_at + self.ttl
        elif not self._ended:
            self._lost = True
            self._core.telemetry.count("batches_lost")


class Batches:
    def __init__(self, core: Core, keeper: Keeper) -> None:
        self._core = core
        self._keeper = keeper

    def lease(
        self, key: str, *, count: int, ttl: float, wait: float, retry_after: float, max_deliveries: int | None
    ) -> LogBatch:
        batch = LogBatch(self._core, key, ttl, retry_after)
        try:
            # Whoever leaves while it is asked for must not keep it.
            self._core.tasks.to_the_end(self._ask, batch, count, wait, max_deliveries)
        except BaseException:
            batch._ended = True
            if batch.batch_id:
                self._left(batch)
            raise
        if batch.ok:
            self._keeper.add(batch)
        return batch

    def _left(self, batch: LogBatch) -> None:
        """Nobody works on it: others may have it at once."""
        self._core.keep(Delivery(list(requests.log_nack(batch.key, batch.batch_id, delivery=batch.delivery).args)))

    def _ask(self, batch: LogBatch, count: int, wait: float, max_deliveries: int | None) -> None:
        end = time.monotonic() + wait
        # A part of the wait: so the connection's time-out tells in time that the server is away.
        # The server looks ten times a second whose wait is over.
        limit = self._core.settings.waiting_timeout
        longest = min(limit * 0.8, limit - 0.25)
        while True:
            left = end - time.monotonic()
            batch._asked_at = time.monotonic()
            found = self._once(batch, count, min(left, longest) if left > 0 else 0.0, max_deliveries)
            if found is not None:
                batch.batch_id, batch.delivery = found.batch_id, found.delivery
                batch._live_until = batch._asked_at + batch.ttl
                # Of records after a wait it is not known when they came: from now on the time is.
                if left <= 0 or self._renewed(batch):
                    batch.records = found.records
                    if batch._ended:  # Whoever asked has left meanwhile.
                        self._left(batch)
                    return
            if left <= 0 or batch._ended or self._core.closed:
                return

    def _renewed(self, batch: LogBatch) -> bool:
        """Whether it is still leased, as far as is known."""
        asked_at = time.monotonic()
        try:
            live = self._core.run(batch._extension())
        except Unavailable:
            return True
        batch._live_until = asked_at + batch.ttl
        return live

    def _once(
        self, batch: LogBatch, count: int, wait: float, max_deliveries: int | None
    ) -> low.Batch | None:
        def asked(wait: float) -> Request[low.Batch | None]:
            return requests.log_lease(
                batch.key,
                lease_ms=milliseconds(batch.ttl),
                count=count,
                block_ms=milliseconds(wait) if wait > 0 else None,
                max_deliveries=max_deliveries,
            )

        return self._core.wait_or_run(asked, wait)
