"""Windows, buckets, slots."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

__all__ = ["Bucket", "Slots", "Window"]

Told = tuple[bool, int | Decimal, int, int]
"""Allowed, remaining, retry_after_ms, reset_after_ms."""


class Window:
    """Exact, in whole milliseconds: what was taken at t counts up to and including t + length - 1."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, Decimal]] = []

    def prune(self, now: int, length: int) -> None:
        self.taken = [(at, units) for at, units in self.taken if now < at + length]

    def used(self) -> Decimal:
        return sum((units for _, units in self.taken), Decimal(0))

    def ask(self, now: int, limit: Decimal, length: int, cost: Decimal, *, fixed: bool = False) -> tuple[bool, int]:
        """Whether it is allowed, and in how many milliseconds it would be."""
        self.begin(now, length, fixed)
        used = self.used()
        if used + cost <= limit:
            return True, 0
        if cost > limit:
            return False, -1
        for at, units in sorted(self.taken):
            used -= units
            if used + cost <= limit:
                return False, at + length - now
        return False, -1

    def begin(self, now: int, length: int, fixed: bool) -> None:
        if fixed and self.taken:
            began = min(at for at, _ in self.taken)
            if now >= began + length:
                self.taken = []
        else:
            self.prune(now, length)

    def take(self, now: int, cost: Decimal, *, fixed: bool = False) -> None:
        if cost:
            at = min((at for at, _ in self.taken), default=now) if fixed else now
            self.taken.append((at, cost))

    def reset_after(self, now: int, length: int) -> int:
        return max((at + length - now for at, units in self.taken if units), default=0)


class Bucket:
    """Its level is in parts of a token of which `rate` flow in each millisecond."""

    def __init__(self, now: int, full: Decimal) -> None:
        self.level = full
        self.at = now

    def flow(self, now: int, rate: Decimal, full: Decimal) -> None:
        self.level = min(full, self.level + rate * (now - self.at))
        self.at = now

    def ask(self, rate: Decimal, full: Decimal, cost: Decimal) -> tuple[bool, int]:
        if cost <= self.level:
            return True, 0
        if cost > full:
            return False, -1
        return False, up((cost - self.level) / rate)

    def reset_after(self, rate: Decimal, full: Decimal) -> int:
        return up((full - self.level) / rate)


def up(value: Decimal) -> int:
    return max(0, int(value.to_integral_value(ROUND_CEILING)))


class Slots:
    def __init__(self) -> None:
        self.holders: dict[bytes, tuple[int, int]] = {}
        """When it ends, and its fencing token."""
        self.last_token = 0

    def prune(self, now: int) -> None:
        self.holders = {holder: (end, token) for holder, (end, token) in self.holders.items() if end > now}

    def acquire(self, now: int, most: int, holder: bytes, ttl: int) -> list[int]:
        self.prune(now)
        if holder in self.holders:
            token = self.holders[holder][1]
        elif len(self.holders) < most:
            token = self.last_token = max(self.last_token + 1, now * 1024)
        else:
            ends = sorted(end for end, _ in self.holders.values())
            retry = ends[len(ends) - most] - now if most else -1
            return [0, len(self.holders), most, retry, 0]
        self.holders[holder] = (now + ttl, token)
        return [1, len(self.holders), most, 0, token]
