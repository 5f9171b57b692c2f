"""What is decided on a request, and why."""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from ._commands import Verdict, verdict_headers

__all__ = ["BudgetDecision", "CallFailed", "Denied", "Health", "LimitDecision", "LockLost", "Outcome", "Settlement"]

Outcome = Literal["admitted", "denied", "degraded"]
"""Degraded: let through without the server, which is away, as the settings allow."""


class Denied(Exception):
    """A request that is not let through."""

    def __init__(self, reason: str, retry_after_ms: int, headers: dict[str, str], status_code: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_ms = retry_after_ms
        self.headers = headers
        self.status_code = status_code


class CallFailed(Exception):
    """Raised in an attempt: the target has failed, and the next one is tried. `retry_after`: for so many seconds the
    provider wants no further call."""

    def __init__(self, reason: str = "the call failed", *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class LockLost(Exception):
    """Somebody else may have the lock by now."""


@dataclass(frozen=True)
class LimitDecision:
    """A limiter's answer."""

    outcome: Outcome
    reason: str
    """Empty if it is admitted; `limit`; `local_limit`; or why the server is away, such as `timeout`."""
    limit: int
    remaining: int
    retry_after_ms: int
    """0 if it is admitted, -1 if waiting does not help."""
    reset_after_ms: int
    period_ms: int
    """The window, or the period of a bucket's rate."""

    @property
    def ok(self) -> bool:
        return self.outcome != "denied"

    def headers(self, name: str = "requests") -> dict[str, str]:
        """The HTTP headers of the response. `name` is `requests` for a limit on requests, and `tokens` for one on
        tokens."""
        told = Verdict(self.ok, self.limit, self.remaining, self.retry_after_ms, self.reset_after_ms)
        return verdict_headers(name, told, self.period_ms, time.time_ns() // 1_000_000)


@dataclass(frozen=True)
class BudgetDecision:
    """Whether a ledger is within its budgets. The amounts are of the tightest one; None if the server is away."""

    outcome: Outcome
    reason: str
    period: str | None = None
    budget: Decimal | None = None
    spent: Decimal | None = None
    held: Decimal | None = None
    remaining: Decimal | None = None
    reset_after_ms: int = -1

    @property
    def ok(self) -> bool:
        return self.outcome != "denied"


@dataclass(frozen=True)
class Settlement:
    """How an admission has ended."""

    outcome: Literal["settled", "late", "repeated", "charged", "unknown", "kept", "given_up", "nothing"]
    """`late`: the lease had ended by time; it is charged all the same. `repeated`: it was settled before. `charged`: no
    account knew the lease, so the money was booked under its id. `unknown`: the same, with no money to book. `kept`:
    the server is away, or the call was interrupted; it is sent later. `given_up`: there is no room to keep more, or the
    server was away for so long that it could be charged twice. `nothing`: there was nothing to settle, because the
    request was denied."""


@dataclass(frozen=True)
class Health:
    """Whether the gateway works, and what waits."""

    ok: bool
    reason: str
    """Why it does not, such as `timeout` or `ModuleMissing`."""
    took: float
    """Seconds that the server took to answer."""
    circuits_open: int
    """Servers that are not asked, because they do not answer."""
    kept: int
    """Settlements and charges that the server has not taken yet."""
    log_records: int
    log_dropped: int
