"""Accounts with their policies, and the admissions that live in them."""

from __future__ import annotations

import json
from decimal import ROUND_CEILING, Decimal
from typing import Any

from ._ledger import PERIODS, Ledger, period_end, period_length
from ._limits import Bucket, Window
from ._words import NotInFake, Words, amount, plain, refused

__all__ = ["Account", "Admission", "Policy"]

ZERO = Decimal(0)
NANO = Decimal("0.000000001")


class Policy:
    """A policy and what it has counted."""

    def __init__(self, name: bytes, kind: str, values: dict[str, Any]) -> None:
        self.name = name
        self.kind = kind
        self.values = values
        self.meter: bytes = values.get("meter", b"")
        self.shadow = bool(values.get("shadow"))
        self.decimal = bool(values.get("decimal"))
        self.window = Window()
        self.bucket: Bucket | None = None

    def units(self, value: Decimal) -> Decimal:
        """Whole units, or billionths: rounded up."""
        return value.quantize(NANO if self.decimal else Decimal(1), ROUND_CEILING)

    def told(self, value: Decimal) -> bytes | int:
        return plain(value) if self.decimal or self.kind == "BUDGET" else int(value)


class Admission:
    def __init__(self, at: int, end: int, amounts: dict[bytes, Decimal]) -> None:
        self.at = at
        self.end = end
        self.amounts = amounts
        self.settled = False


class Account(Ledger):
    def __init__(self) -> None:
        super().__init__()
        self.policies: dict[bytes, Policy] = {}
        self.admissions: dict[bytes, Admission] = {}
        self.meters: dict[bytes, Ledger] = {}
        self.cooldown_until = 0

    def ledger(self, meter: bytes) -> Ledger:
        return self if meter == b"usd" else self.meters.setdefault(meter, Ledger())

    def live(self, now: int) -> list[Admission]:
        return [one for one in self.admissions.values() if not one.settled and one.end > now]

    def held(self, period: bytes, now: int) -> Decimal:
        return super().held(period, now) + self.held_by_admissions(b"usd", now)

    def held_by_admissions(self, meter: bytes, now: int) -> Decimal:
        return sum((one.amounts.get(meter, ZERO) for one in self.live(now)), ZERO)

    # A request.

    def rows(self, name: bytes, amounts: dict[bytes, Decimal], now: int) -> list[list[Any]]:
        """Eleven fields for each policy, before anything is taken."""
        made = [self.row(name, policy, amounts, now) for policy in self.policies.values()]
        if self.cooldown_until > now:
            wait = self.cooldown_until - now
            made.append([name, b"COOLDOWN", 0, 0, 0, wait, wait, b"COOLDOWN", b"", -1, 0])
        return made

    def row(self, name: bytes, policy: Policy, amounts: dict[bytes, Decimal], now: int) -> list[Any]:
        values, kind = policy.values, policy.kind
        named = policy.meter in amounts
        cost = policy.units(amounts[policy.meter]) if named else ZERO
        # A meter that is not named takes nothing, and passes while anything is left.
        asked = cost if named else (NANO if policy.decimal else Decimal(1))
        limit, period, used = ZERO, -1, ZERO
        if kind == "WINDOW":
            limit, period = values["limit"], values["per_ms"]
            allowed, retry = policy.window.ask(now, limit, period, asked, fixed=values["fixed"])
            used = policy.window.used()
            reset = policy.window.reset_after(now, period)
        elif kind == "BUCKET":
            limit, period = values["burst"], values["per_ms"]
            bucket, rate, full = self.bucket(policy, now)
            allowed, retry = bucket.ask(rate, full, asked * period)
            used = (full - bucket.level) / period
            reset = bucket.reset_after(rate, full)
        elif kind == "INFLIGHT":
            limit, live = Decimal(values["max"]), self.live(now)
            used = Decimal(len(live))
            allowed = used < limit
            ends = sorted(one.end for one in live)
            retry = 0 if allowed else ends[len(ends) - int(limit)] - now if limit else -1
            reset = max((end - now for end in ends), default=0)
        elif kind == "BUDGET":
            limit, period_name = values["amount"], values["period"]
            ledger = self.ledger(policy.meter)
            held = self.held(period_name, now) if policy.meter == b"usd" else self.held_by_admissions(policy.meter, now)
            used = ledger.spent(period_name, now) + held
            allowed = used + cost <= limit if named else used < limit
            reset, period = period_end(period_name, now), period_length(period_name, now)
            retry = 0 if allowed else -1 if cost > limit else reset
        else:
            until = values["until_ms"]
            allowed = until is not None and until <= now
            retry = 0 if allowed else -1 if until is None else until - now
            reset = retry
        left = max(ZERO, limit - used)
        if kind == "BUCKET":
            left = left.quantize(NANO if policy.decimal else Decimal(1), "ROUND_FLOOR")
            used = policy.units(used)
        limit_told: bytes | int = policy.told(limit)
        words = [name, policy.name, int(allowed), limit_told, policy.told(left), retry, reset]
        return [*words, kind.encode(), policy.meter, period, policy.told(used)]

    def bucket(self, policy: Policy, now: int) -> tuple[Bucket, Decimal, Decimal]:
        rate, full = policy.values["rate"], policy.values["burst"] * policy.values["per_ms"]
        if policy.bucket is None:
            policy.bucket = Bucket(now, full)
        policy.bucket.flow(now, rate, full)
        return policy.bucket, rate, full

    def refuses(self, rows: list[list[Any]]) -> bool:
        return any(not row[2] and not (row[1] in self.policies and self.policies[row[1]].shadow) for row in rows)

    def take(self, lease: bytes, amounts: dict[bytes, Decimal], now: int, end: int) -> None:
        self.admissions[lease] = Admission(now, end, dict(amounts))
        for policy in self.policies.values():
            self.count(policy, amounts.get(policy.meter, ZERO), now, now)

    def count(self, policy: Policy, units: Decimal, at: int, now: int) -> None:
        """Adds to what a window or bucket has counted, or takes from it."""
        if policy.kind == "WINDOW":
            policy.window.take(at, policy.units(units), fixed=policy.values["fixed"])
        elif policy.kind == "BUCKET":
            bucket, _, full = self.bucket(policy, now)
            bucket.level = min(full, bucket.level - policy.units(units) * policy.values["per_ms"])

    def settle(self, lease: bytes, used: dict[bytes, Decimal], now: int) -> str:
        admission = self.admissions.get(lease)
        if admission is None:
            return "UNKNOWN"
        if admission.settled:
            return "REPEATED"
        late = admission.end <= now
        admission.settled = True
        actual = {**admission.amounts, **used}
        for policy in self.policies.values():
            before, after = admission.amounts.get(policy.meter, ZERO), actual.get(policy.meter, ZERO)
            self.count(policy, policy.units(after) - policy.units(before), admission.at, now)
        budgets = {policy.meter for policy in self.policies.values() if policy.kind == "BUDGET"}
        for meter, value in actual.items():
            if meter == b"usd" or meter in budgets:
                self.ledger(meter).charge(value, admission.at)
        return "LATE" if late else "SETTLED"

    # Policies.

    def set_policy(self, name: bytes, words: Words, now: int) -> bool:
        made = Policy(name, *policy_of_words(words, now))
        return self.put(made)

    def put(self, made: Policy) -> bool:
        """Whether it is new. It keeps what it has counted if it counts the same."""
        old = self.policies.get(made.name)
        if old is not None and (old.kind, old.meter, old.decimal) == (made.kind, made.meter, made.decimal):
            made.window, made.bucket = old.window, old.bucket
        self.policies[made.name] = made
        return old is None

    def put_document(self, document: bytes, now: int) -> None:
        try:
            policies = json.loads(document, parse_float=str, parse_int=str)["policies"]
        except (ValueError, KeyError, TypeError):
            raise refused("not a document of policies: json") from None
        made = [Policy(one["name"].encode(), *policy_of_members(one, now)) for one in policies]
        order = {policy.name: policy for policy in made}
        for name in [name for name in self.policies if name not in order]:
            del self.policies[name]
        for policy in made:
            self.put(policy)
        self.policies = {name: self.policies[name] for name in order}


def policy_of_members(members: dict[str, Any], now: int) -> tuple[str, dict[str, Any]]:
    """A policy of GW.POLICYPUT's document, by way of GW.POLICYSET's words."""
    kind = str(members["kind"]).upper()
    taken = {
        "WINDOW": ["limit"],
        "BUCKET": ["rate", "burst"],
        "INFLIGHT": ["max"],
        "BUDGET": ["amount", "period"],
        "BLOCK": [],
    }.get(kind)
    if taken is None:
        raise NotInFake(f"a policy of the kind {kind}")
    options = {
        "per_ms": "PER", "meter": "METER", "soft_percent": "SOFT", "anchor_ms": "ANCHOR",
        "for_ms": "FOR", "until_ms": "UNTIL",
    }  # fmt: skip
    flags = {"decimal": "DECIMAL", "fixed": "FIXED", "give_back": "GIVEBACK", "shadow": "SHADOW"}
    words = [kind, *(str(members[name]) for name in taken)]
    for name, value in members.items():
        if name in options:
            words += [options[name], str(value)]
        elif name in flags:
            words += [flags[name]] if value else []
        elif name not in ("name", "kind", *taken):
            raise refused(f"unknown word: {name} (policies)")
    return policy_of_words(Words([word.encode() for word in words]), now)


def policy_of_words(words: Words, now: int) -> tuple[str, dict[str, Any]]:
    kind = words.take("kind").upper().decode()
    values: dict[str, Any] = {"fixed": False}
    texts: list[bytes] = []
    if kind in ("WINDOW", "BUCKET"):
        texts = [words.take() for _ in range(1 if kind == "WINDOW" else 2)]
    elif kind == "INFLIGHT":
        values["max"] = words.integer("max", 0)
    elif kind == "BUDGET":
        values.update(amount=amount(words.take("amount"), "amount"), period=words.take("period").upper(), meter=b"usd")
        if values["period"] not in PERIODS:
            raise refused(f"not DAY, WEEK, MONTH or TOTAL: {values['period'].decode()}")
    elif kind == "BLOCK":
        values["until_ms"] = None
    else:
        raise NotInFake(f"a policy of the kind {kind}")
    if texts:
        values["meter"] = b"requests"
    while words.left():
        option = words.take().upper()
        if option == b"PER":
            values["per_ms"] = words.integer("PER", 1)
        elif option == b"METER":
            values["meter"] = words.name("METER", 64)
        elif option in (b"DECIMAL", b"FIXED", b"SHADOW"):
            values[option.decode().lower()] = True
        elif option == b"SOFT":
            words.integer("SOFT", 1, 100)
        elif option == b"FOR":
            values["until_ms"] = now + words.integer("FOR", 1)
        elif option == b"UNTIL":
            values["until_ms"] = words.integer("UNTIL", 0)
        else:
            raise NotInFake(f"the option {option.decode('utf-8', 'replace')} of a policy")
    if texts:
        if "per_ms" not in values:
            raise refused("missing option: PER")
        numbers = [amount(text, "limit") for text in texts]
        values.update({"limit": numbers[0]} if kind == "WINDOW" else {"rate": numbers[0], "burst": numbers[1]})
    return kind, values
