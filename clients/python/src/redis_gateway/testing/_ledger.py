"""What was spent, by period, and what is held."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

from .._commands import EXACT
from ._words import plain, refused

__all__ = ["PERIODS", "Ledger", "period_end", "period_length"]

PERIODS = (b"DAY", b"WEEK", b"MONTH", b"TOTAL")


def day_of(at: int) -> date:
    return datetime.fromtimestamp(at / 1000, timezone.utc).date()


def first_day(period: bytes, day: date) -> date:
    if period == b"WEEK":
        return day - timedelta(days=day.weekday())
    if period == b"MONTH":
        return day.replace(day=1)
    return day if period == b"DAY" else date.min


def next_day(period: bytes, first: date) -> date:
    if period == b"MONTH":
        return (first + timedelta(days=32)).replace(day=1)
    return first + timedelta(days=7 if period == b"WEEK" else 1)


def milliseconds(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp() * 1000)


def period_end(period: bytes, now: int) -> int:
    """Until the period ends; -1 for TOTAL."""
    if period == b"TOTAL":
        return -1
    return milliseconds(next_day(period, first_day(period, day_of(now)))) - now


def period_length(period: bytes, now: int) -> int:
    if period == b"TOTAL":
        return -1
    first = first_day(period, day_of(now))
    return milliseconds(next_day(period, first)) - milliseconds(first)


class Hold:
    def __init__(self, amount: Decimal, at: int, end: int) -> None:
        self.amount = amount
        self.at = at
        self.end = end
        self.state = ""
        self.charged = Decimal(0)


class Ledger:
    def __init__(self) -> None:
        self.sums: dict[tuple[bytes, date], Decimal] = {}
        self.holds: dict[bytes, Hold] = {}
        self.charges: dict[bytes, tuple[Decimal, int]] = {}

    def charge(self, amount: Decimal, at: int) -> None:
        for period in PERIODS:
            key = (period, first_day(period, day_of(at)))
            self.sums[key] = EXACT.add(self.sums.get(key, Decimal(0)), amount)

    def spent(self, period: bytes, at: int) -> Decimal:
        return self.sums.get((period, first_day(period, day_of(at))), Decimal(0))

    def held(self, period: bytes, now: int) -> Decimal:
        here = first_day(period, day_of(now))
        live = (hold for hold in self.holds.values() if not hold.state and hold.end > now)
        return sum((hold.amount for hold in live if first_day(period, day_of(hold.at)) == here), Decimal(0))

    def tightest(self, budgets: list[tuple[Decimal, bytes]], now: int) -> list[bytes | int]:
        """The fields that tell of the budget with the least left."""

        def left(one: tuple[Decimal, bytes]) -> Decimal:
            return one[0] - self.spent(one[1], now) - self.held(one[1], now)

        budget, period = min(budgets, key=left)
        return [
            period,
            plain(budget),
            plain(self.spent(period, now)),
            plain(self.held(period, now)),
            plain(max(Decimal(0), left((budget, period)))),
            period_end(period, now),
        ]

    def has_room(self, budget: Decimal, period: bytes, now: int, cost: Decimal | None) -> bool:
        used = self.spent(period, now) + self.held(period, now)
        return used < budget if cost is None else used + cost <= budget

    def end(self, hold_id: bytes, now: int, actual: Decimal | None) -> list[bytes | int]:
        """Commits, or cancels."""
        if hold_id in self.charges:
            charged, at = self.charges[hold_id]
            return [0, b"charged", plain(charged), 0, plain(self.spent(b"MONTH", at))]
        hold = self.holds.get(hold_id)
        if hold is None:
            raise refused("no such hold: it was never made, or is forgotten", "NOHOLD")
        changed = not hold.state
        if changed:
            hold.state = "cancelled" if actual is None else "committed"
            hold.charged = actual or Decimal(0)
            self.charge(hold.charged, hold.at)
        over = int(hold.charged > hold.amount)
        return [int(changed), hold.state.encode(), plain(hold.charged), over, plain(self.spent(b"MONTH", hold.at))]
