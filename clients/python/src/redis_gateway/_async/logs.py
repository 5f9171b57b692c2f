"""A buffer of log records in front of a queue of the server: nobody waits for it, and it takes what its bounds
allow."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections import deque
from typing import Any

from .._commands import requests
from .._errors import GatewayError, QueueFull
from ..failures import Unavailable, not_now
from . import _runtime as runtime
from .core import AsyncCore

__all__ = ["AsyncLogs"]

log = logging.getLogger("redis_gateway")
# The server remembers the id of a push for `gw.log-id-ms`, ten minutes by default.
REMEMBERED_S = 540.0
# The most bytes of a batch: small enough to arrive within the time-out over a slow network, and to hold up no other
# command of the server for long. A longer record is pushed alone.
BATCH_BYTES = 512 * 1024


class Batch:
    """Records that are pushed together, under one id, until the server has taken them."""

    def __init__(self, records: list[bytes]) -> None:
        self.records = records
        self.id = uuid.uuid4().hex
        self.first_sent: float | None = None
        """When it may have arrived for the first time. If its records are pushed one by one: when the first of them
        may have."""
        self.one_by_one = False
        """One of them was refused, so each gets a push of its own."""

    def may_have_arrived(self) -> None:
        if self.first_sent is None:
            self.first_sent = time.monotonic()


class AsyncLogs:
    def __init__(
        self,
        core: AsyncCore,
        key: str,
        *,
        records: int,
        size: int,
        batch: int,
        every: float,
        as_json: bool,
        reject: bool,
    ) -> None:
        self._core = core
        self._key = key
        self._most = records
        self._most_bytes = size
        self._batch = batch
        self._every = every
        self._json = as_json
        self._reject = reject
        self._mutex = runtime.Mutex()
        self._buffer: deque[bytes] = deque()
        self._bytes = 0
        self._sending: Batch | None = None
        self._turn = runtime.Places(1)
        self._running = False
        self._wake = runtime.Event()
        self._closed = False
        self.dropped = 0
        """Records that had no room in the buffer or the queue, or that the server refused."""
        core.telemetry.watch("log.buffered", lambda: [(len(self), {})])

    def __len__(self) -> int:
        """Records that the server has not taken yet."""
        return len(self._buffer) + (len(self._sending.records) if self._sending is not None else 0)

    def push(self, record: Any) -> None:
        """Takes a record: bytes or a string as they are, anything else as JSON. It waits for nothing. If the buffer is
        full, its oldest records are dropped, and counted. After `aclose` every record is."""
        if isinstance(record, bytes):
            encoded = record
        elif isinstance(record, str):
            encoded = record.encode()
        else:
            encoded = json.dumps(record, ensure_ascii=False, separators=(",", ":"), default=str).encode()
        dropped = 0
        with self._mutex:
            ended = self._closed or self._core.closed
            if not ended:
                self._buffer.append(encoded)
                self._bytes += len(encoded)
            while len(self._buffer) > self._most or (self._bytes > self._most_bytes and len(self._buffer) > 0):
                self._bytes -= len(self._buffer.popleft())
                dropped += 1
            full = len(self._buffer) >= self._batch or self._bytes >= BATCH_BYTES
            start = not self._running and not ended
            self._running = self._running or start
        if ended:
            self._drop(1, "closed")
            return
        if dropped:
            self._drop(dropped, "buffer_full")
        if start:
            try:
                self._core.tasks.start(self._run)
            except RuntimeError:
                # No event loop runs here. The next push in one, or `flush`, pushes this record, too.
                self._running = False
        if full:
            self._wake.set()

    def _drop(self, count: int, reason: str) -> None:
        with self._mutex:
            self.dropped += count
        self._core.telemetry.count("log_dropped", count, reason=reason)

    async def _run(self) -> None:
        """Pushes when a batch is full, or `every` seconds after the first record, until there is none."""
        try:
            while not self._closed and not self._core.closed:
                await self._wake.wait(self._every)
                self._wake.clear()
                if not await self.flush():
                    # The server is away, or its queue is full.
                    await self._core.closing.wait(self._every)
                with self._mutex:
                    if not self._buffer and self._sending is None:
                        self._running = False
                        return
        except BaseException:
            self._running = False
            raise

    async def flush(self) -> bool:
        """Pushes all there is. Whether the server has taken it."""
        return await self._core.tasks.to_the_end(self._flush)

    async def _flush(self) -> bool:
        # One at a time, also if whoever asked for the one before was cancelled: two would push the same batch.
        await self._turn.take(None)
        try:
            while await self._next_batch():
                pass
            return self._sending is None
        finally:
            self._turn.free()

    async def _next_batch(self) -> bool:
        """Pushes a batch. False if there is none, or it was not taken."""
        with self._mutex:
            if self._sending is None:
                self._sending = self._filled()
            batch = self._sending
        if batch is None or not await self._push(batch):
            return False
        with self._mutex:
            self._sending = None
        return True

    def _filled(self) -> Batch | None:
        """The oldest records, as many as a batch may have."""
        records: list[bytes] = []
        size = 0
        while self._buffer and len(records) < self._batch:
            if records and size + len(self._buffer[0]) > BATCH_BYTES:
                break
            records.append(self._buffer.popleft())
            size += len(records[-1])
        self._bytes -= size
        return Batch(records) if records else None

    async def _push(self, batch: Batch) -> bool:
        """Whether it is done with: taken, or refused for good."""
        if batch.one_by_one:
            return await self._push_each(batch)
        if batch.first_sent is not None and time.monotonic() - batch.first_sent > REMEMBERED_S:
            # It may have arrived, and the server may have forgotten its id: to send it again could store it twice.
            self._drop(len(batch.records), "unknown")
            return True
        try:
            pushed = await self._core.background.call(
                requests.log_push(self._key, batch.records, json=self._json, reject=self._reject, id=batch.id)
            )
        except Unavailable as error:
            if error.sent:
                batch.may_have_arrived()
            return False
        except QueueFull:
            return False
        except GatewayError as error:
            if not_now(error):
                return False
            if len(batch.records) == 1:
                log.error("a log record was refused: %s", type(error).__name__)
                self._drop(1, "refused")
                return True
            # One of them cannot be stored. From now on each gets its own push, so that the others are: none of them has
            # arrived yet, and none may be pushed under the batch's id again.
            batch.one_by_one, batch.first_sent = True, None
            return await self._push_each(batch)
        except BaseException:
            batch.may_have_arrived()
            raise
        if pushed.dropped:
            self._drop(pushed.dropped, "queue_full")
        return True

    async def _push_each(self, batch: Batch) -> bool:
        while batch.records:
            one = Batch(batch.records[:1])
            one.id = f"{batch.id}:{len(batch.records)}"
            one.first_sent = batch.first_sent
            done = await self._push(one)
            batch.first_sent = None if done else one.first_sent
            if not done:
                return False
            del batch.records[0]
        return True

    def after_fork(self) -> None:
        """In the child: the records are the parent's, which pushes them."""
        self._mutex = runtime.Mutex()
        self._wake = runtime.Event()
        self._buffer, self._bytes, self._sending = deque(), 0, None
        self._turn = runtime.Places(1)
        self._running = False

    async def aclose(self) -> None:
        """Pushes what there is, once. What the server does not take is dropped, and counted."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
        self._wake.set()
        try:
            await self.flush()
        finally:
            with self._mutex:
                left = len(self)
                self._buffer.clear()
                self._bytes, self._sending = 0, None
            if left:
                self._drop(left, "closed")
