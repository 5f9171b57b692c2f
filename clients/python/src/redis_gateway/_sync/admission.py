# Generated from ../_async/admission.py by tools/unasync.py. Do not edit.
"""An admission from the question to the settlement, whatever happens in between."""

# The classes of this package know each other's inside.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar

from .. import _commands as low
from .._commands import AdmissionRow, Amount, Request, Rows, parse_amount, requests
from .._errors import GatewayError, LeaseEnded, NoAccount
from ..amounts import checked_amount
from ..decisions import Denied, Outcome, Settlement
from ..deliveries import Delivery, unix_ms
from ..failures import Unavailable
from ..lifetime import Owned
from ..local import share
from ..settings import Local
from . import _runtime as runtime
from .core import Ask, Core
from .keeper import Keeper, milliseconds

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Admission", "Admitter", "Plan"]

T = TypeVar("T")
log = logging.getLogger("redis_gateway")

Plan = Callable[[str], tuple[str, float | None] | None]
"""For an account that does not exist: its policies as the document of GW.POLICYPUT, and after how many seconds without
requests it expires (None: never). None if the account shall not be made."""

MOST_ACCOUNTS = 16
MONEY = "usd"


class Group:
    """Accounts of one slot, and what is known of the admission there."""

    __slots__ = ("accounts", "state")

    def __init__(self, accounts: list[str]) -> None:
        self.accounts = accounts
        self.state: Literal["not", "maybe", "live"] = "not"


def text_of(key: str | bytes) -> str:
    return key.decode("utf-8", "surrogateescape") if isinstance(key, bytes) else key


def above_zero(amount: Amount) -> bool:
    return parse_amount(str(amount)) > 0


def zeros(estimates: Mapping[str, Amount]) -> dict[str, Amount]:
    return {"requests": 0, **dict.fromkeys(estimates, 0)}


class Admission(Owned):
    """A request that was admitted, denied, or, while the server is away, let through as degraded.

    Use it as a context: it is settled at the end, exactly once, however that comes. Meters of which `use` was not told
    are charged at their estimates.
    """

    def __init__(
        self,
        core: Core,
        lease_id: str,
        groups: list[Group],
        estimates: Mapping[str, Amount],
        ttl: float,
        attributes: Mapping[str, str] | None,
    ) -> None:
        super().__init__()
        self._core = core
        self._groups = groups
        self._mutex = runtime.Mutex()
        self._ending = False
        self._answered = False
        self._abandoned = False
        self._used: dict[str, Amount] = {}
        self._attributes = None if attributes is None else dict(attributes)
        """None: the accounts' admission of the same request tells of its tokens."""
        self._admitted_ms = unix_ms()
        self.lease_id = lease_id
        self.accounts = tuple(account for group in groups for account in group.accounts)
        self.estimates: dict[str, Amount] = dict(estimates)
        self.ttl = ttl
        self.keep_until = time.monotonic() + core.settings.lease_cap
        self.outcome: Outcome = "denied"
        self.reason = ""
        """Why: empty if it was admitted; `limit`, `local_limit`, `no_account`; or why the server is away, such as
        `timeout`."""
        self.retry_after_ms = 0
        """How long a denied request has to wait; -1 if waiting does not help."""
        self.rows: tuple[AdmissionRow, ...] = ()
        self.lost = False
        """The lease has ended although it was kept alive: the server has lost it, or the hard cap has come."""
        self.began = False
        """A piece of its `stream` was passed on."""
        self.settlement: Settlement | None = None
        """How it has ended, once it has."""

    @property
    def ok(self) -> bool:
        """Whether the request may go on."""
        return self.outcome != "denied"

    @property
    def refusals(self) -> tuple[AdmissionRow, ...]:
        """The rows of the policies that do not allow it."""
        return tuple(row for row in self.rows if not row.allowed)

    @property
    def status_code(self) -> int:
        """The HTTP status: 200, 429 if a limit refuses, 503 if the server is away."""
        if self.ok:
            return 200
        return 429 if self.reason in ("limit", "local_limit") else 403 if self.reason == "no_account" else 503

    def headers(self, *, meters: Mapping[str, str] | None = None) -> dict[str, str]:
        """The HTTP headers of the response: `Retry-After`, IETF's `RateLimit` and `RateLimit-Policy`, OpenAI's and
        Anthropic's. They need `rows="DETAIL"`. `meters` gives the usual names of meters that are called otherwise here,
        such as `{"tpm": "tokens"}`."""
        told = low.Admission(self.ok, self.retry_after_ms, self.rows)
        return low.admission_headers(told, unix_ms(), meters=meters)

    def raise_if_denied(self) -> None:
        if not self.ok:
            raise Denied(self.reason, self.retry_after_ms, self.headers(), self.status_code)

    # What was used.

    def use(self, amounts: Mapping[str, Amount | None] | None = None, /, **meters: Amount | None) -> None:
        """Tells what the request has used so far, in all: `use(tokens=1312, usd="0.0175")`. Later words replace
        earlier ones; None tells nothing. Raises ValueError if one is not an amount from 0, and then takes none of
        them."""
        told = {**(amounts or {}), **meters}
        self._used.update(
            {meter: checked_amount(meter, amount) for meter, amount in told.items() if amount is not None}
        )

    def unused(self) -> None:
        """The model was not asked, or refused: the request counts, but has used nothing."""
        self._used.update(dict.fromkeys(self.estimates, 0))

    # The end.

    def settle(
        self, amounts: Mapping[str, Amount | None] | None = None, /, **meters: Amount | None
    ) -> Settlement | None:
        """Ends the admission. Only the first call does something; the others reply how that went, or None while it is
        under way. If the server refuses it, that is raised, and it can be settled again."""
        self.use(amounts, **meters)
        return self._end(self._used, None)

    def undo(self) -> Settlement | None:
        """Ends the admission as if it had never been: nothing is charged, and limits get back what it took."""
        return self._end(zeros(self.estimates), None)

    def _end(
        self, used: Mapping[str, Amount], call: tuple[bool, float | None, float | None] | None
    ) -> Settlement | None:
        if not self.mine:
            return None
        with self._mutex:
            first = not self._ending
            self._ending = True
        self._core.unwatch(self)
        if first:
            return self._core.tasks.to_the_end(self._settle, dict(used), call)
        return self.settlement

    def _settle(
        self, used: Mapping[str, Amount], call: tuple[bool, float | None, float | None] | None
    ) -> Settlement:
        try:
            settlement = self._core.deliver_all(self._deliveries(used, call))
        except GatewayError:
            # An error reply has changed nothing: it can be settled again.
            self._ending = False
            raise
        except BaseException:
            # It was broken off, and is kept.
            self._ended(Settlement("kept"))
            raise
        self._ended(settlement)
        if self._attributes is not None:
            self._core.telemetry.used(used, self._attributes)
        return settlement

    def _ended(self, settlement: Settlement) -> None:
        self.settlement = settlement
        self._core.telemetry.count("settlements", outcome=settlement.outcome)

    def _deliveries(
        self, used: Mapping[str, Amount], call: tuple[bool, float | None, float | None] | None
    ) -> list[Delivery]:
        """What the server has to be told. `call`: whether it failed, a cooldown, and how long it took."""
        if self.outcome == "denied" and not any(group.state != "not" for group in self._groups):
            return []
        failed, cooldown, took = call or (False, None, None)
        money = used.get(MONEY, self.estimates.get(MONEY, 0))
        made: list[Delivery] = []
        for group in self._groups:
            charges: list[list[str | bytes | int]] = []
            if above_zero(money):
                charges = [
                    list(requests.add_cost(account, money, at_ms=self._admitted_ms, id=self.lease_id).args)
                    for account in self._billed(group)
                ]
            if group.state == "not":
                # The server has certainly not heard of it.
                made += [Delivery(charge) for charge in charges]
                continue
            settle = requests.settle(
                group.accounts,
                lease_id=self.lease_id,
                amounts=used,
                failed=failed,
                cooldown_ms=milliseconds(cooldown) if failed and cooldown else None,
                took_ms=round(took * 1000) if took is not None else None,
            )
            delivery = Delivery(list(settle.args), charges)
            # If the question is still on its way, it is admitted later: it has to be settled then, and not charged now.
            delivery.early = group.state == "maybe"
            made.append(delivery)
        return made

    def _billed(self, group: Group) -> list[str]:
        """The accounts of a group to which the money is booked if the server does not know the lease."""
        return group.accounts

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self.settle()
        return None

    def stream(
        self, source: Iterable[T], usage: Callable[[T], Mapping[str, Amount | None] | None] | None = None
    ) -> Iterator[T]:
        """Passes a model's answer on, piece by piece, and settles when it ends, breaks off, or nobody wants more of it.

        `usage` finds in a piece what was used so far. If the model fails before its first piece, nothing was used.
        """
        complete = False
        try:
            with runtime.closing_source(source) as pieces:
                for piece in pieces:
                    self.began = True
                    found = usage(piece) if usage is not None else None
                    if found:
                        self.use(found)
                    yield piece
            complete = True
        except Exception as error:
            self._stream_failed(error)
            raise
        finally:
            (self.settle() if complete else self._broken_off())

    def _stream_failed(self, error: Exception) -> None:
        if not self.began and not self._used:
            self.unused()

    def _broken_off(self) -> Settlement | None:
        """Ends it in the middle of the call."""
        return self.settle()

    def __del__(self) -> None:
        # Nobody can settle it any more. The server keeps the estimates, and is told as soon as there is time.
        # This may run in the middle of anything, also while this thread holds a lock: so it takes none, and only puts
        # itself where others look.
        if self.mine and not self._ending and self._answered and self.ok and not self._core.closed:
            self._core.leaked.append(self)

    def forgotten(self, figure: str) -> None:
        """Nobody can settle it any more: it is settled at what is known. `figure`: what counts it."""
        if not self._answered:
            self.abandon()
            return
        with self._mutex:
            first = not self._ending
            self._ending = True
        self._core.unwatch(self)
        if not first or not self.ok:
            return
        self._core.telemetry.count(figure)
        if figure == "admissions_leaked":
            log.error("an admission was never settled: it is settled at its estimates")
        outcomes = [self._core.keep(delivery) for delivery in self._deliveries(self._used, None)]
        self._ended(next((one for one in outcomes if one.outcome == "given_up"), Settlement("kept")))

    # What keeps it alive.

    def keep_alive_requests(self) -> list[Request[int]]:
        if self._ending:
            return []
        return [
            requests.keep_alive(group.accounts, lease_id=self.lease_id, ttl_ms=milliseconds(self.ttl))
            for group in self._groups
            if group.state != "not"
        ]

    @property
    def holds(self) -> bool:
        """Whether the server has admitted it, or may have: also one that is degraded."""
        return self.ok and any(group.state != "not" for group in self._groups)

    def kept_alive(self, live: bool) -> None:
        # One that is degraded may go on without a lease.
        if not live and not self._ending and self.outcome == "admitted":
            self.lost = True
            self._core.telemetry.count("leases_lost")

    # What happens while it is asked for.

    def abandon(self) -> None:
        """Whoever asked has left before the answer: what it brings is given back."""
        self._abandoned = True
        if self._answered:
            self.give_back()

    def answered(self) -> None:
        self._answered = True
        if self._abandoned:
            self.give_back()
        elif self.ok:
            self._core.watch(self)

    def give_back(self) -> None:
        """Undoes it in the background."""
        if self._ending:
            return
        self._ending = True
        for delivery in self._deliveries(zeros(self.estimates), None):
            self._core.keep(delivery)


class Admitter:
    def __init__(self, core: Core, keeper: Keeper, plans: Plan | None) -> None:
        self._core = core
        self._keeper = keeper
        self._plans = plans

    def prepare(
        self,
        accounts: str | bytes | Sequence[str | bytes],
        estimates: Mapping[str, Amount],
        ttl: float | None,
        lease_id: str | None,
        attributes: Mapping[str, str] | None,
    ) -> Admission:
        names = (
            [text_of(accounts)] if isinstance(accounts, (str, bytes)) else [text_of(account) for account in accounts]
        )
        if not names:
            raise ValueError("accounts: at least one")
        return Admission(
            self._core,
            lease_id or uuid.uuid4().hex,
            self._grouped(names),
            estimates,
            ttl or self._core.settings.lease_ttl,
            attributes or {},
        )

    def _grouped(self, accounts: Sequence[str]) -> list[Group]:
        """Accounts that can be named in one call, in their order."""
        groups: dict[int, list[Group]] = {}
        made: list[Group] = []
        for account in accounts:
            own = groups.setdefault(self._core.transport.place_of(account), [])
            if not own or len(own[-1].accounts) == MOST_ACCOUNTS:
                own.append(Group([]))
                made.append(own[-1])
            own[-1].accounts.append(account)
        return made

    def admit(
        self, admission: Admission, rows: Rows, require: bool, keep_alive: bool, away: str | None = None
    ) -> None:
        """Asks, to the end, even if whoever asks is cancelled meanwhile."""
        try:
            self._core.tasks.to_the_end(self.ask, admission, rows, require, self._core.asking(away))
        except BaseException:
            admission.abandon()
            raise
        self.decided(admission, keep_alive)

    def decided(self, admission: Admission, keep_alive: bool) -> None:
        self._core.telemetry.decided("admission", admission.outcome, admission.reason)
        if keep_alive and admission.holds:
            self._keeper.add(admission)

    def ask(self, admission: Admission, rows: Rows, require: bool, ask: Ask) -> None:
        try:
            self._ask_each_slot(admission, rows, require, ask)
        finally:
            admission.answered()

    def _ask_each_slot(self, admission: Admission, rows: Rows, require: bool, ask: Ask) -> None:
        found: list[AdmissionRow] = []
        for group in admission._groups:
            try:
                group.state = "maybe"
                answer = self._ask_slot(group, admission, rows, require, ask)
            except Unavailable as error:
                if not error.sent:
                    group.state = "not"
                self._decide_alone(admission, error)
                return
            except NoAccount:
                group.state = "not"
                admission.outcome, admission.reason, admission.retry_after_ms = "denied", "no_account", -1
                self._undo(admission)
                return
            except BaseException as error:
                if isinstance(error, GatewayError):
                    group.state = "not"
                self._undo(admission)
                raise
            found += answer.rows
            admission.rows = tuple(found)
            if not answer.admitted:
                group.state = "not"
                admission.outcome, admission.reason = "denied", "limit"
                admission.retry_after_ms = answer.retry_after_ms
                self._undo(admission)
                return
            group.state = "live"
        admission.outcome = "admitted"

    def question(self, group: Group, admission: Admission, rows: Rows, require: bool) -> Request[low.Admission]:
        return requests.admit(
            group.accounts,
            lease_id=admission.lease_id,
            ttl_ms=milliseconds(admission.ttl),
            amounts=admission.estimates,
            require=require,
            rows=rows,
        )

    def _ask_slot(
        self, group: Group, admission: Admission, rows: Rows, require: bool, ask: Ask
    ) -> low.Admission:
        asked = self.question(group, admission, rows, require)
        for _ in group.accounts:
            try:
                return ask(asked)
            except NoAccount as error:
                if not self._make(error.account):
                    raise
            except LeaseEnded:
                # An answer was lost for so long that the lease has ended meanwhile.
                raise Unavailable("timeout", sent=True) from None
        return ask(asked)

    def _make(self, account: str) -> bool:
        """Makes an account from its plan, unless another gateway is quicker."""
        plan = self._plans(account) if self._plans is not None else None
        if plan is None:
            return False
        document, idle = plan
        idle_ms = milliseconds(idle) if idle is not None else None
        self._core.run(requests.policy_put(account, document, nx=True, idle_ms=idle_ms))
        return True

    def _decide_alone(self, admission: Admission, error: Unavailable) -> None:
        """The server is away."""
        away = self._core.settings.away.admission
        admission.reason = error.reason
        if isinstance(away, Local):
            limit = share(away.requests, self._core.settings.instances)
            key = ("admission", admission.accounts[0])
            allowed, _, retry_after_ms = self._core.windows.take(key, limit, away.window, 1)
            if allowed:
                admission.outcome = "degraded"
                return
            admission.reason, admission.retry_after_ms = "local_limit", retry_after_ms
        elif away == "open":
            admission.outcome = "degraded"
            return
        else:
            admission.retry_after_ms = milliseconds(self._core.settings.pause)
        admission.outcome = "denied"
        self._undo(admission)

    def _undo(self, admission: Admission) -> None:
        """Gives back what the slots before have admitted, and what may have been admitted."""
        deliveries = admission._deliveries(zeros(admission.estimates), None)
        known: list[Delivery] = []
        for delivery, group in zip(
            deliveries, [group for group in admission._groups if group.state != "not"], strict=True
        ):
            if group.state == "maybe":
                self._core.keep(delivery)
            else:
                known.append(delivery)
            group.state = "not"
        self._core.deliver_all(known)
