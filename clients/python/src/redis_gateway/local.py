"""Limits of this process's own, for the time in which the server is away."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

__all__ = ["LocalSlots", "LocalWindows", "share"]

# Of the keys that were used last.
KEYS = 10_000
# A window is counted in so many parts: what was taken in a part leaves the window with its end, late rather than early.
PARTS = 64


def share(limit: int, instances: int) -> int:
    """This process's part of a limit: at least 1 of a limit above 0, since to refuse everything is what `closed` is
    for."""
    return max(limit // instances, min(limit, 1))


class LocalWindows:
    """Sliding windows by key."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._keys: OrderedDict[object, deque[tuple[int, int]]] = OrderedDict()

    def take(self, key: object, limit: int, window: float, cost: int, *, peek: bool = False) -> tuple[bool, int, int]:
        """Whether it is allowed, what is left, and in how many milliseconds it would be allowed (-1: never)."""
        part = window / PARTS
        with self._lock:
            now = self._clock()
            taken = self._keys.get(key)
            if taken is None:
                taken = self._keys[key] = deque()
            # What was taken in a part leaves `window` after the part's end.
            while taken and (taken[0][0] + 1 + PARTS) * part <= now:
                taken.popleft()
            used = sum(units for _, units in taken)
            allowed = used + cost <= limit
            if allowed and not peek and cost > 0:
                at = int(now / part)
                if taken and taken[-1][0] == at:
                    taken[-1] = (at, taken[-1][1] + cost)
                else:
                    taken.append((at, cost))
                used += cost
            if taken:
                self._keys[key] = taken
                self._keys.move_to_end(key)
                if len(self._keys) > KEYS:
                    self._keys.popitem(last=False)
            else:
                self._keys.pop(key, None)
            retry_after_ms = 0
            if not allowed:
                retry_after_ms = -1
                over = used + cost - limit
                for at, units in taken:
                    over -= units
                    if over <= 0:
                        retry_after_ms = max(1, int(((at + 1 + PARTS) * part - now) * 1000) + 1)
                        break
            return allowed, max(0, limit - used), retry_after_ms


class LocalSlots:
    """Slots by key, each taken by a holder until it is released or its time is up."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._keys: dict[object, dict[str, float]] = {}

    def take(self, key: object, most: int, holder: str, ttl: float) -> tuple[bool, int, int]:
        """Whether there is a slot, how many are taken, and in how many milliseconds one is free by itself (-1:
        never)."""
        with self._lock:
            now = self._clock()
            holders = {name: end for name, end in self._keys.get(key, {}).items() if end > now}
            if holder in holders or len(holders) < most:
                holders[holder] = now + ttl
                self._keys[key] = holders
                return True, len(holders), 0
            if not holders:
                self._keys.pop(key, None)
                return False, 0, -1
            return False, len(holders), max(1, int((min(holders.values()) - now) * 1000))

    def free(self, key: object, holder: str) -> None:
        with self._lock:
            holders = self._keys.get(key)
            if holders is not None:
                holders.pop(holder, None)
                if not holders:
                    del self._keys[key]
