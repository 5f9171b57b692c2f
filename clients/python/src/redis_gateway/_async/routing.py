"""One of several deployments of a model, and the next one if it fails."""

# The classes of this package know each other's inside.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, cast

from .._commands import EXACT, Amount, Pick, Request, Routed, format_amount, parse_amount, requests
from .._errors import GatewayError, LeaseEnded, NoAccount
from ..decisions import CallFailed, Denied, Settlement
from ..failures import Unavailable
from ..local import share
from ..settings import Local
from .admission import AsyncAdmission, AsyncAdmitter, Group, above_zero, text_of, zeros
from .core import AsyncAnswer, AsyncAsk, AsyncCore
from .keeper import AsyncKeeper, milliseconds

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AsyncAttempt", "AsyncRoutedRequest", "AsyncRouter", "Failures"]

log = logging.getLogger("redis_gateway")

Failures = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], CallFailed | bool | None]
"""Which exceptions say that the target has failed, besides CallFailed: their types, such as
`(openai.APIConnectionError, openai.InternalServerError)`, or a function. It returns whether the exception does; or a
CallFailed, which may tell for how long the provider wants no further call."""

AwayMode = Literal["open", "closed"] | Local

MOST_TARGETS = 64
MOST_SETTLED = 16


def are_types(failures: Failures) -> TypeGuard[type[Exception] | tuple[type[Exception], ...]]:
    return isinstance(failures, (type, tuple))


class AsyncAttempt(AsyncAdmission):
    """A call of one target. As a context it is settled at the end; a CallFailed that is raised in it, or one of the
    `failures`, ends there, and is counted against the target. Any other exception goes on. If the target is known to
    have answered, because a piece of its stream was passed on or `use` has told an amount above 0, that counts as a
    success. If not, it says nothing about the target: it neither closes nor opens a breaker, the limits on the target's
    requests get this one back, and other meters keep their estimates. In both cases it says nothing about how long the
    target takes."""

    target: str = ""
    """The target to call; empty if none has room."""
    succeeded = False
    """It was settled, and not as a failure."""
    error: Exception | None = None
    """With what it has failed."""
    _started = 0.0
    _failures: Failures = ()

    def _billed(self, group: Group) -> list[str]:
        return [self.target] if self.target in group.accounts else []

    async def settle(
        self, amounts: Mapping[str, Amount | None] | None = None, /, **meters: Amount | None
    ) -> Settlement | None:
        self.use(amounts, **meters)
        if not self._ending:
            self.succeeded = True
        return await self._end(self._used, (False, None, time.monotonic() - self._started))

    async def _stream_failed(self, error: Exception) -> None:
        failure = self._failure(error)
        if failure is not None:
            self.error = error
            await self.failed(failure.retry_after)
        else:
            await super()._stream_failed(error)

    def _failure(self, error: BaseException | None) -> CallFailed | None:
        """None if the target is not to blame."""
        if isinstance(error, CallFailed):
            return error
        if not isinstance(error, Exception):
            return None
        failures = self._failures
        if are_types(failures):
            return CallFailed() if isinstance(error, failures) else None
        try:
            found = cast("Callable[[Exception], object]", failures)(error)
        except Exception:
            # The attempt has to be settled all the same.
            log.exception("the function `failures` has failed")
            return None
        return found if isinstance(found, CallFailed) else CallFailed() if found else None

    async def _broken_off(self) -> Settlement | None:
        if not self._ending:
            self.succeeded = True
        answered = self.began or any(above_zero(amount) for amount in self._used.values())
        # A settlement of no requests is the one that is neither a success nor a failure.
        used = self._used if answered else {"requests": 0, **self._used}
        # How long the call would have taken is not known.
        return await self._end(used, (False, None, None))

    def _spent(self) -> dict[str, Amount]:
        """What it has used, as the server charges it."""
        return {**self.estimates, **self._used} if self.succeeded or self._used else {}

    async def failed(self, retry_after: float | None = None) -> Settlement | None:
        """Ends the attempt as a failure of the target. `retry_after`: for so many seconds the provider wants no
        further call."""
        return await self._end(self._used or zeros(self.estimates), (True, retry_after, None))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if isinstance(error, Exception) and self._failure(error) is not None:
            await self._stream_failed(error)
            # Once the client has a piece of an answer, no other target can go on with it.
            return not self.began
        await (self.settle() if error is None else self._broken_off())
        return None


class AsyncRouter:
    def __init__(self, core: AsyncCore, keeper: AsyncKeeper) -> None:
        self._core = core
        self._keeper = keeper

    async def route(
        self,
        targets: Sequence[str | bytes],
        estimates: Mapping[str, Amount],
        *,
        pick: Pick,
        ttl: float | None,
        lease_id: str | None,
        keep_alive: bool,
        failures: Failures,
        attributes: Mapping[str, str] | None,
        away: str | None = None,
    ) -> AsyncAttempt:
        names = [text_of(target) for target in targets]
        attempt = self.prepare(names, estimates, ttl, lease_id, failures, attributes)
        mode = self._core.settings.away.admission
        try:
            await self._core.tasks.to_the_end(self.ask, attempt, names, pick, mode, self._core.asking(away))
        except BaseException:
            attempt.abandon()
            raise
        self.decided(attempt, keep_alive)
        return attempt

    def prepare(
        self,
        targets: list[str],
        estimates: Mapping[str, Amount],
        ttl: float | None,
        lease_id: str | None,
        failures: Failures,
        attributes: Mapping[str, str] | None,
    ) -> AsyncAttempt:
        if not targets:
            raise ValueError("targets: at least one")
        attempt = AsyncAttempt(
            self._core, lease_id or uuid.uuid4().hex, [], estimates, ttl or self._core.settings.lease_ttl, attributes
        )
        attempt._failures = failures
        return attempt

    def decided(self, attempt: AsyncAttempt, keep_alive: bool) -> None:
        attempt._started = time.monotonic()
        self._core.telemetry.decided("route", attempt.outcome, attempt.reason)
        if keep_alive and attempt.holds:
            self._keeper.add(attempt)

    async def ask(self, attempt: AsyncAttempt, targets: list[str], pick: Pick, away: AwayMode, ask: AsyncAsk) -> None:
        try:
            await self._ask_slots(attempt, targets, pick, away, ask)
        finally:
            attempt.answered()

    async def request(
        self, admitter: AsyncAdmitter, admission: AsyncAdmission, targets: list[str], pick: Pick, failures: Failures
    ) -> AsyncAttempt | None:
        """Asks for the accounts' admission and for the first target: in one round trip, if one server has all of them.
        None: the accounts refuse, or their server has not all targets, which are asked for later then."""
        attempt = self.prepare(targets, admission.estimates, admission.ttl, None, failures, attributes=None)
        asked = [
            *(admitter.question(group, admission, "DETAIL", False) for group in admission._groups),
            *(self._question(attempt, group, pick) for group in self.grouped(targets)),
        ]
        if len(asked) != 2 or len({self._core.transport.node_of(one.args) for one in asked}) != 1:
            await admitter.admit(admission, "DETAIL", False, True)
            return None
        try:
            await self._core.tasks.to_the_end(self._ask_together, asked, admitter, admission, attempt, targets, pick)
        except BaseException:
            admission.abandon()
            attempt.abandon()
            raise
        admitter.decided(admission, True)
        if not admission.ok:
            return None
        self.decided(attempt, True)
        return attempt

    async def _ask_together(
        self,
        asked: Sequence[Request[Any]],
        admitter: AsyncAdmitter,
        admission: AsyncAdmission,
        attempt: AsyncAttempt,
        targets: list[str],
        pick: Pick,
    ) -> None:
        try:
            admitted, routed = await self._core.together(asked)
        except BaseException as error:
            # It was broken off: each of the two gives back what it may have got.
            admitted = routed = AsyncAnswer(error)
        try:
            await admitter.ask(admission, "DETAIL", False, admitted)
        finally:
            # A target that was picked for accounts that refuse is free again at once.
            away = self._core.settings.away.admission if admission.ok else "closed"
            await self.ask(attempt, targets, pick, away, routed)
            if attempt.ok and not admission.ok:
                await attempt.undo()

    def grouped(self, targets: list[str]) -> list[list[str]]:
        """Targets that can be named in one call. Those of different slots cannot be compared: the first that admits
        it is taken."""
        groups: dict[tuple[int, int], list[str]] = {}
        counts: dict[int, int] = {}
        for target in targets:
            place = self._core.transport.place_of(target)
            at = counts.get(place, 0)
            counts[place] = at + 1
            groups.setdefault((place, at // MOST_TARGETS), []).append(target)
        return list(groups.values())

    def _question(self, attempt: AsyncAttempt, targets: list[str], pick: Pick) -> Request[Routed]:
        return requests.route(
            targets,
            lease_id=attempt.lease_id,
            ttl_ms=milliseconds(attempt.ttl),
            amounts=attempt.estimates,
            pick=pick,
            rows="REFUSED",
        )

    async def _ask_slots(
        self, attempt: AsyncAttempt, targets: list[str], pick: Pick, away: AwayMode, ask: AsyncAsk
    ) -> None:
        missing = 0
        waits: list[int] = []
        groups = self.grouped(targets)
        for group in groups:
            # Whoever leaves meanwhile gives back whichever target has been charged.
            attempt._groups = [Group(group[at : at + MOST_SETTLED]) for at in range(0, len(group), MOST_SETTLED)]
            for part in attempt._groups:
                part.state = "maybe"
            try:
                routed = await ask(self._question(attempt, group, pick))
            except NoAccount:
                missing += 1
                attempt._groups = []
                continue
            except (Unavailable, LeaseEnded) as error:
                why = error if isinstance(error, Unavailable) else Unavailable("timeout", sent=True)
                if not why.sent:
                    attempt._groups = []
                self._decide_alone(attempt, targets, pick, away, why)
                return
            except GatewayError:
                attempt._groups = []
                raise
            if routed.target is not None:
                attempt.target = routed.target
                attempt._groups = [Group([routed.target])]
                attempt._groups[0].state = "live"
                attempt.accounts = (routed.target,)
                attempt.outcome, attempt.reason = "admitted", ""
                return
            attempt._groups = []
            attempt.rows += routed.rows
            waits.append(routed.retry_after_ms)
        attempt.outcome = "denied"
        attempt.reason = "no_account" if missing == len(groups) else "limit"
        known = [wait for wait in waits if wait >= 0]
        attempt.retry_after_ms = min(known) if known else -1

    def _decide_alone(
        self, attempt: AsyncAttempt, targets: list[str], pick: Pick, away: AwayMode, error: Unavailable
    ) -> None:
        attempt.reason = error.reason
        order = list(targets)
        if pick != "FIRST":
            random.shuffle(order)
        if away == "open":
            attempt.target = order[0]
        elif isinstance(away, Local):
            limit = share(away.requests, self._core.settings.instances)
            waits: list[int] = []
            for target in order:
                allowed, _, retry_after_ms = self._core.windows.take(("route", target), limit, away.window, 1)
                if allowed:
                    attempt.target = target
                    break
                waits.append(retry_after_ms)
            else:
                attempt.reason, attempt.retry_after_ms = "local_limit", min(waits)
        else:
            attempt.retry_after_ms = milliseconds(self._core.settings.pause)
        if attempt.target:
            attempt.outcome = "degraded"
            attempt.accounts = (attempt.target,)
            if not any(attempt.target in group.accounts for group in attempt._groups):
                attempt._groups.append(Group([attempt.target]))
            return
        attempt.outcome = "denied"
        for delivery in attempt._deliveries(zeros(attempt.estimates), None):
            self._core.keep(delivery)
        attempt._groups = []


class AsyncRoutedRequest:
    """A request that is paid by accounts and served by one of several targets.

        async with await gateway.request(["key:7", "team"], ["{gpt}:eu", "{gpt}:us"], {"tokens": 1500}) as request:
            async for attempt in request.attempts():
                async with attempt:
                    answer = await call(attempt.target)  # raises CallFailed: the next target is tried
                    attempt.use(tokens=answer.tokens)

    After the last attempt has failed, `attempts` raises Denied, and the request costs its accounts nothing.
    """

    def __init__(
        self,
        router: AsyncRouter,
        admission: AsyncAdmission,
        first: AsyncAttempt | None,
        targets: list[str],
        pick: Pick,
        most: int,
        failures: Failures,
    ) -> None:
        self._router = router
        self._first = first
        """The first attempt, if its target was asked for together with the accounts, and until it is begun."""
        self._targets = targets
        self._pick: Pick = pick
        self._most = most
        self._failures = failures
        self._attempts: list[AsyncAttempt] = []
        self.admission = admission
        """The accounts' admission."""

    @property
    def ok(self) -> bool:
        return self.admission.ok

    def raise_if_denied(self) -> None:
        self.admission.raise_if_denied()

    async def attempts(self) -> AsyncIterator[AsyncAttempt]:
        self.raise_if_denied()
        left = list(self._targets)
        reason, retry_after_ms = "every_target_failed", -1
        tried = 0
        while left and tried < self._most:
            tried += 1
            attempt = await self._next(left)
            if not attempt.ok:
                if tried == 1:
                    reason, retry_after_ms = attempt.reason, attempt.retry_after_ms
                break
            self._attempts.append(attempt)
            yield attempt
            await attempt.settle()
            if attempt.succeeded:
                return
            left.remove(attempt.target)
        if not self._used():
            await self.admission.undo()
        status = 503 if reason not in ("limit", "local_limit") else 429
        headers = {"Retry-After": str(-(-retry_after_ms // 1000))} if retry_after_ms >= 0 else {}
        last = next((attempt.error for attempt in reversed(self._attempts) if attempt.error is not None), None)
        raise Denied(reason, retry_after_ms, headers, status) from last

    async def _next(self, targets: list[str]) -> AsyncAttempt:
        first, self._first = self._first, None
        if first is not None:
            first._started = time.monotonic()
            return first
        return await self._router.route(
            targets,
            self.admission.estimates,
            pick=self._pick,
            ttl=self.admission.ttl,
            lease_id=None,
            keep_alive=True,
            failures=self._failures,
            attributes=None,  # The accounts' admission tells of the tokens of all attempts.
        )

    def _used(self) -> dict[str, str]:
        """What all attempts have used together: it is the request's, too. A meter of which none of them has told
        anything keeps the request's estimate."""
        told = {meter for attempt in self._attempts for meter in attempt._used}
        totals: dict[str, Decimal] = {}
        for attempt in self._attempts:
            for meter, amount in attempt._spent().items():
                if meter in told:
                    # A float is the number that it shows.
                    totals[meter] = EXACT.add(totals.get(meter, Decimal(0)), parse_amount(str(amount)))
        return {meter: format_amount(total) for meter, total in totals.items()}

    def _cost_nothing(self) -> bool:
        """All attempts have failed before they used anything."""
        return bool(self._attempts) and not any(attempt._spent() for attempt in self._attempts)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        failed: Exception | None = None
        endings: list[Callable[[], Awaitable[object]]] = [attempt.settle for attempt in self._attempts]
        if self._first is not None:
            endings.append(self._first.undo)  # Its target was not called.
        for end in endings:
            try:
                await end()
            except Exception as refused:
                # The others and the accounts are settled all the same.
                failed = failed or refused
        if self._cost_nothing():
            await self.admission.undo()
        else:
            await self.admission.settle(self._used())
        if failed is not None:
            raise failed
        return None


async def requested(
    admitter: AsyncAdmitter,
    router: AsyncRouter,
    admission: AsyncAdmission,
    targets: Sequence[str | bytes],
    pick: Pick,
    most: int,
    failures: Failures,
) -> AsyncRoutedRequest:
    names = [text_of(target) for target in targets]
    first = await router.request(admitter, admission, names, pick, failures)
    return AsyncRoutedRequest(router, admission, first, names, pick, most, failures)
