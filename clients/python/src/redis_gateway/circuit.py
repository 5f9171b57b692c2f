"""Stops asking a server that does not answer, so that an outage costs each request nothing."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

__all__ = ["Circuit"]

log = logging.getLogger("redis_gateway")


class Circuit:
    """Closed while calls succeed. After `failures` failures in a row it is open: nothing is asked for `pause`
    seconds. Then one call at a time tries, until one succeeds. Each change is logged once."""

    def __init__(
        self,
        name: str,
        failures: int,
        pause: float,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._limit = failures
        self._pause = pause
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.RLock()
        self._failures = 0
        self._opened_at: float | None = None
        self._retry_at = 0.0
        self._away_s = 0.0

    @property
    def is_open(self) -> bool:
        return self._opened_at is not None

    @property
    def away_seconds(self) -> float:
        """For how long it was open, in all."""
        with self._lock:
            since = self._clock() - self._opened_at if self._opened_at is not None else 0.0
            return self._away_s + since

    def may_ask(self) -> bool:
        if not self.is_open:
            return True
        with self._lock:
            now = self._clock()
            if self.is_open and now < self._retry_at:
                return False
            # This call tries; the others wait until it is known how that went, or another pause has passed.
            self._retry_at = now + self._next_pause()
            return True

    def succeeded(self) -> None:
        if self._failures == 0 and self._opened_at is None:
            return
        with self._lock:
            self._failures = 0
            if self._opened_at is None:
                return
            away_s = self._clock() - self._opened_at
            self._away_s += away_s
            self._opened_at = None
        log.warning("%s answers again, after %.1f s", self.name, away_s)

    def failed(self, reason: str) -> None:
        with self._lock:
            self._failures += 1
            now = self._clock()
            if self._opened_at is not None:
                self._retry_at = now + self._next_pause()
                return
            if self._failures < self._limit:
                return
            self._opened_at = now
            self._retry_at = now + self._next_pause()
        log.warning("%s is away (%s): it is asked again from time to time", self.name, reason)

    def _next_pause(self) -> float:
        # Processes that lost the server together do not come back to it together.
        return self._pause * (0.75 + 0.5 * self._jitter())
