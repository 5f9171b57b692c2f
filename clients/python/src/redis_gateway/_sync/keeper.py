# Generated from ../_async/keeper.py by tools/unasync.py. Do not edit.
"""Keeps leases alive while their requests run: one background task for all of them."""

from __future__ import annotations

import heapq
import logging
import time
import weakref
from typing import Protocol

from .._commands import Request, requests
from ..failures import not_now
from . import _runtime as runtime
from .core import Core

__all__ = ["Keeper", "Lease"]

log = logging.getLogger("redis_gateway")


class Lease(Protocol):
    """What is kept alive: an admission, or a lock."""

    def keep_alive_requests(self) -> list[Request[int]] | list[Request[bool]]:
        """Empty if it has ended."""
        ...

    def kept_alive(self, live: bool) -> None: ...

    ttl: float
    keep_until: float


class Keeper:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._wake = runtime.Event()
        core.wakers.append(self._wake)
        self._mutex = runtime.Mutex()
        self._due: list[tuple[float, int, weakref.ref[Lease]]] = []
        self._number = 0
        self._running = False

    def add(self, lease: Lease) -> None:
        """Extends it every third of its time, until it ends, its hard cap comes, or nobody has it any more."""
        self._push(time.monotonic() + lease.ttl / 3, weakref.ref(lease))
        with self._mutex:
            start = not self._running
            self._running = True
        if start:
            self._core.tasks.start(self._run)

    def after_fork(self) -> None:
        """In the child: the leases are the parent's, and its task has not come along."""
        self._mutex = runtime.Mutex()
        self._wake = runtime.Event()
        self._core.wakers.append(self._wake)
        self._due = []
        self._running = False

    def _push(self, at: float, lease: weakref.ref[Lease]) -> None:
        with self._mutex:
            self._number += 1
            first = not self._due or at < self._due[0][0]
            heapq.heappush(self._due, (at, self._number, lease))
        if first:
            self._wake.set()

    def _run(self) -> None:
        try:
            while True:
                self._wake.clear()
                if self._core.closed:
                    return
                with self._mutex:
                    pause = self._due[0][0] - time.monotonic() if self._due else None
                if pause is None or pause > 0:
                    self._wake.wait(pause)
                    continue
                due = self._next()
                try:
                    self._extend(due)
                except Exception:
                    # The other leases are to live on.
                    log.exception("leases were not extended")
                    for lease in due:
                        self._push(time.monotonic() + 1.0, lease)
        finally:
            self._running = False

    def _next(self) -> list[weakref.ref[Lease]]:
        now = time.monotonic()
        due: list[weakref.ref[Lease]] = []
        with self._mutex:
            while self._due and self._due[0][0] <= now and len(due) < 100:
                due.append(heapq.heappop(self._due)[2])
        return due

    def _extend(self, due: list[weakref.ref[Lease]]) -> None:
        now = time.monotonic()
        asked: list[tuple[weakref.ref[Lease], int]] = []
        sent: list[Request[int] | Request[bool]] = []
        for reference in due:
            lease = reference()
            if lease is not None and now >= lease.keep_until:
                lease.kept_alive(False)
            elif lease is not None:
                own = lease.keep_alive_requests()
                if own:
                    asked.append((reference, len(own)))
                    sent.extend(own)
            del lease  # Or this task would keep it alive itself.
        if not sent:
            return
        replies = iter(self._core.transport.many(sent))
        for reference, count in asked:
            own_replies = [next(replies) for _ in range(count)]
            lease = reference()
            if lease is None:
                continue
            if any(not_now(reply) for reply in own_replies):
                self._core.telemetry.count("keep_alive_failed")
                self._push(time.monotonic() + lease.ttl / 6, reference)
            elif all(reply == 0 or isinstance(reply, Exception) for reply in own_replies):
                lease.kept_alive(False)
            else:
                lease.kept_alive(True)
                self._push(time.monotonic() + lease.ttl / 3, reference)
            del lease


def admission_request(accounts: list[str], lease_id: str, ttl: float) -> Request[int]:
    return requests.keep_alive(accounts, lease_id=lease_id, ttl_ms=milliseconds(ttl))


def milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
