"""Limits and budgets that are asked for by themselves, outside an admission."""

# The classes of this package know each other's inside.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import uuid
from collections.abc import Iterable
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING

from .. import _commands as low
from .._commands import Amount, Period, Request, Verdict, requests
from .._errors import GatewayError
from ..amounts import checked_amount
from ..decisions import BudgetDecision, LimitDecision, Settlement
from ..deliveries import Delivery, unix_ms
from ..failures import Unavailable
from ..lifetime import Owned
from ..local import share
from . import _runtime as runtime
from .core import AsyncCore
from .keeper import milliseconds

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AsyncBudgets", "AsyncHold", "AsyncLimits"]

BudgetList = Iterable[tuple[Amount, Period]]


class AsyncLimits:
    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    async def allow(
        self, key: str, limit: int, *, window: float = 60.0, cost: int = 1, peek: bool = False
    ) -> LimitDecision:
        """Whether `cost` units fit into the last `window` seconds."""
        try:
            verdict = await self._core.run(
                requests.allow(key, limit, window_ms=milliseconds(window), cost=cost, mode="PEEK" if peek else None)
            )
        except Unavailable as error:
            return self._alone(key, limit, window, cost, peek, error)
        return self._told(verdict, milliseconds(window))

    async def tokens(
        self, key: str, rate: int, burst: int, *, per: float = 60.0, cost: int = 1, peek: bool = False
    ) -> LimitDecision:
        """Whether a bucket has `cost` tokens: it holds `burst`, and gets `rate` tokens every `per` seconds."""
        try:
            verdict = await self._core.run(
                requests.tokens(key, rate, burst, per_ms=milliseconds(per), cost=cost, mode="PEEK" if peek else None)
            )
        except Unavailable as error:
            # A window in which as much is let through as the bucket would let through in that time.
            return self._alone(key, max(rate, burst), per * max(1.0, burst / rate), cost, peek, error)
        return self._told(verdict, milliseconds(per))

    def _told(self, verdict: Verdict, period_ms: int) -> LimitDecision:
        outcome, reason = ("admitted", "") if verdict.allowed else ("denied", "limit")
        self._core.telemetry.decided("limits", outcome, reason)
        return LimitDecision(
            "admitted" if verdict.allowed else "denied",
            reason,
            verdict.limit,
            verdict.remaining,
            verdict.retry_after_ms,
            verdict.reset_after_ms,
            period_ms,
        )

    def _alone(self, key: str, limit: int, window: float, cost: int, peek: bool, error: Unavailable) -> LimitDecision:
        mode = self._core.settings.away.limits
        pause_ms = milliseconds(self._core.settings.pause)
        if mode == "open":
            decision = LimitDecision("degraded", error.reason, limit, limit, 0, 0, milliseconds(window))
        elif mode == "closed":
            decision = LimitDecision("denied", error.reason, limit, 0, pause_ms, pause_ms, milliseconds(window))
        else:
            own = share(limit, self._core.settings.instances)
            allowed, left, retry_after_ms = self._core.windows.take(("limits", key), own, window, cost, peek=peek)
            decision = LimitDecision(
                "degraded" if allowed else "denied",
                error.reason if allowed else "local_limit",
                own,
                left,
                retry_after_ms,
                milliseconds(window),
                milliseconds(window),
            )
        self._core.telemetry.decided("limits", decision.outcome, decision.reason)
        return decision


class AsyncHold(Owned):
    """Money set aside for a request. As a context it is committed at the end, at what `use` told, or else at its
    estimate."""

    def __init__(
        self, core: AsyncCore, key: str, hold_id: str, estimate: Amount, decision: BudgetDecision, known: bool
    ) -> None:
        super().__init__()
        self._core = core
        self._actual: Amount = estimate
        self._ended = False
        self._mutex = runtime.Mutex()
        self._at_ms = unix_ms()
        self._known = known
        self.key = key
        self.hold_id = hold_id
        self.decision = decision

    @property
    def ok(self) -> bool:
        return self.decision.ok

    def use(self, actual: Amount | None) -> None:
        """Tells what the request has really cost; None tells nothing. Raises ValueError if it is not an amount from
        0."""
        if actual is not None:
            self._actual = checked_amount("actual", actual)

    async def commit(self, actual: Amount | None = None) -> Settlement | None:
        """Charges what the request has cost, once."""
        self.use(actual)
        return await self._end(self._actual)

    async def cancel(self) -> Settlement | None:
        """Gives the money free again."""
        return await self._end(None)

    async def _end(self, actual: Amount | None) -> Settlement | None:
        if not self.mine:
            return None
        with self._mutex:
            first, self._ended = not self._ended, True
        if not first or not self.ok:
            return None
        return await self._core.tasks.to_the_end(self._deliver, actual)

    async def _deliver(self, actual: Amount | None) -> Settlement:
        try:
            return await self._core.deliver(self._ending(actual))
        except GatewayError:
            # An error reply has changed nothing: it can be ended again.
            self._ended = False
            raise

    def _ending(self, actual: Amount | None) -> Delivery:
        charge = requests.add_cost(self.key, actual or 0, at_ms=self._at_ms, id=self.hold_id)
        if actual is None:
            return Delivery(list(requests.cancel(self.key, self.hold_id).args))
        if self._known:
            return Delivery(list(requests.commit(self.key, self.hold_id, actual).args), [list(charge.args)])
        # The server has certainly not heard of it.
        return Delivery(list(charge.args))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        await self.commit()
        return None


class AsyncBudgets:
    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    async def within(self, key: str, budgets: BudgetList, *, cost: Amount | None = None) -> BudgetDecision:
        """Whether a ledger is within its budgets, `[(500, "MONTH"), (20, "DAY")]`, and would be with `cost` more."""
        try:
            answer = await self._core.run(requests.within_budget(key, budgets, estimate=cost))
        except Unavailable as error:
            return self._alone(error)
        self._core.telemetry.decided("budgets", *(("admitted", "") if answer.within else ("denied", "limit")))
        return BudgetDecision(
            "admitted" if answer.within else "denied",
            "" if answer.within else "limit",
            answer.period,
            answer.budget,
            answer.spent,
            answer.held,
            answer.remaining,
            answer.reset_after_ms,
        )

    def _alone(self, error: Unavailable) -> BudgetDecision:
        outcome = "degraded" if self._core.settings.away.budgets == "open" else "denied"
        self._core.telemetry.decided("budgets", outcome, error.reason)
        return BudgetDecision("degraded" if outcome == "degraded" else "denied", error.reason)

    async def reserve(self, key: str, estimate: Amount, budgets: BudgetList, *, ttl: float = 300.0) -> AsyncHold:
        """Sets money aside for a request if all budgets have room for it."""
        hold_id = uuid.uuid4().hex
        asked = requests.reserve(key, estimate, budgets, ttl_ms=milliseconds(ttl), id=hold_id)
        try:
            hold = await self._core.tasks.to_the_end(self._reserve, asked)
        except Unavailable as error:
            decision = self._alone(error)
            if error.sent and not decision.ok:
                self._core.keep(self._cancelled(key, hold_id))
            return AsyncHold(self._core, key, hold_id, estimate, decision, error.sent)
        except GatewayError:
            raise
        except BaseException:
            # Whoever asked has left before the answer: what it sets aside is given free again.
            self._core.keep(self._cancelled(key, hold_id))
            raise
        self._core.telemetry.decided("budgets", *(("admitted", "") if hold.granted else ("denied", "limit")))
        decision = BudgetDecision(
            "admitted" if hold.granted else "denied",
            "" if hold.granted else "limit",
            hold.period,
            hold.budget,
            hold.spent,
            hold.held,
            hold.remaining,
            hold.reset_after_ms,
        )
        return AsyncHold(self._core, key, hold_id, estimate, decision, True)

    async def _reserve(self, asked: Request[low.Hold]) -> low.Hold:
        return await self._core.run(asked)

    def _cancelled(self, key: str, hold_id: str) -> Delivery:
        # The reservation may reach the server after this does: so NOHOLD is not final.
        return Delivery(list(requests.cancel(key, hold_id).args), early=True)

    async def charge(
        self, key: str, amount: Amount, *, id: str | None = None, at_ms: int | None = None, refund: bool = False
    ) -> Settlement:
        """Adds to a ledger, once. While the server is away the charge is kept, and booked later on the day of now, or
        of `at_ms`."""
        made = requests.add_cost(key, amount, at_ms=at_ms or unix_ms(), id=id or uuid.uuid4().hex, refund=refund)
        return await self._core.tasks.to_the_end(self._core.deliver, Delivery(list(made.args)))

    async def spent(self, key: str, period: Period = "MONTH") -> Decimal:
        """What a ledger has spent in the current period. Raises Unavailable if the server is away."""
        return await self._core.run(requests.spent(key, period=period))
