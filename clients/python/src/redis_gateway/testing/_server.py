"""The fake server: its clock, its keys, and its commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from .._commands import NotCanonical, cache_key
from .._errors import GatewayError
from ..failures import Unavailable
from ._accounts import Account
from ._ledger import PERIODS, Ledger, milliseconds
from ._limits import Bucket, Slots, Window
from ._store import Entry, FillLeases, Queue
from ._words import NotInFake, Words, amount, plain, refused, whole

__all__ = ["FakeRedis", "NotInFake"]

T = TypeVar("T")
LONGEST = 31_622_400_000
RESERVED = (b"WITH", b"LEASE", b"TTL", b"SHADOW", b"REQUIRE", b"ROWS", b"PICK", b"FAILED", b"COOLDOWN", b"TOOK")


class FakeRedis:
    """Instead of a client of redis-py: `Gateway(FakeRedis())`, `AsyncGateway(FakeRedis())`."""

    def __init__(self, now_ms: int = 1_767_225_600_000) -> None:
        self.now_ms = now_ms
        """The server's clock, unix milliseconds: the beginning of 2026, until tests set it on."""
        self.away = False
        """While it is set, nothing is answered, as if the server were away."""
        self.calls: list[tuple[bytes, ...]] = []
        """All commands that were sent, the last ones last."""
        self._keys: dict[bytes, object] = {}
        self._fills = FillLeases()

    def advance(self, seconds: float) -> None:
        """Sets the clock on."""
        self.now_ms += round(seconds * 1000)

    def flush(self) -> None:
        """Forgets everything."""
        self._keys.clear()
        self._fills = FillLeases()

    def execute(self, *words: str | bytes | int) -> Any:
        """The reply of a command, as redis-py returns it without decoding. Raises the errors of `redis_gateway`."""
        encoded = [word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogateescape") for word in words]
        self.calls.append(tuple(encoded))
        if self.away:
            raise Unavailable("fake", sent=False)
        name = encoded[0].upper().decode()
        command: Callable[[Words], Any] | None = getattr(self, "_" + name.removeprefix("GW.").lower(), None)
        if command is None or not name.startswith("GW."):
            raise NotInFake(f"the fake has no {name}")
        return command(Words(encoded[1:]))

    def replies(self, commands: Sequence[Sequence[bytes]]) -> list[Any]:
        """Of several commands; each may be an error."""
        made: list[Any] = []
        for words in commands:
            try:
                made.append(self.execute(*words))
            except GatewayError as error:
                made.append(error)
        return made

    def _at(self, key: bytes, kind: type[T]) -> T | None:
        found = self._keys.get(key)
        if found is None or isinstance(found, kind):
            return found
        raise refused("Operation against a key holding the wrong kind of value", "WRONGTYPE")

    def _made(self, key: bytes, kind: type[T], make: Callable[[], T]) -> T:
        found = self._at(key, kind)
        if found is None:
            found = make()
            self._keys[key] = found
        return found

    # Limits.

    def _allow(self, words: Words) -> list[int]:
        key, limit = words.take(), words.integer("limit", 0)
        length, cost, fixed, mode = 60_000, b"1", False, b""
        while words.left():
            option = words.take().upper()
            if option == b"WINDOW":
                length = words.integer("WINDOW", 1, LONGEST)
            elif option == b"COST":
                cost = words.take("COST")
            elif option == b"FIXED":
                fixed = True
            elif option in (b"PEEK", b"FORCE"):
                mode = option
            else:
                raise refused(f"unknown option: {option.decode('utf-8', 'replace')}")
        units = Decimal(whole(cost, "COST", -(2**53) if mode == b"FORCE" else 0))
        window = self._at(key, Window) or Window()
        allowed, retry = window.ask(self.now_ms, Decimal(limit), length, units, fixed=fixed)
        if mode == b"FORCE":
            allowed, retry = True, 0
        if allowed and mode != b"PEEK" and units:
            window.take(self.now_ms, units, fixed=fixed)
            self._keys[key] = window
        left = max(Decimal(0), limit - window.used())
        return [int(allowed), limit, int(left), retry, window.reset_after(self.now_ms, length)]

    def _tokens(self, words: Words) -> list[int]:
        key, rate, burst = words.take(), words.integer("rate", 1), words.integer("burst", 0)
        per, cost, mode = 60_000, b"1", b""
        while words.left():
            option = words.take().upper()
            if option == b"PER":
                per = words.integer("PER", 1, LONGEST)
            elif option == b"COST":
                cost = words.take("COST")
            elif option in (b"PEEK", b"FORCE"):
                mode = option
            else:
                raise refused(f"unknown option: {option.decode('utf-8', 'replace')}")
        units = Decimal(whole(cost, "COST", -(2**53) if mode == b"FORCE" else 0)) * per
        full = Decimal(burst * per)
        bucket = self._at(key, Bucket) or Bucket(self.now_ms, full)
        bucket.flow(self.now_ms, Decimal(rate), full)
        allowed, retry = bucket.ask(Decimal(rate), full, units)
        if mode == b"FORCE":
            allowed, retry = True, 0
        if allowed and mode != b"PEEK":
            bucket.level = min(full, bucket.level - units)
            self._keys[key] = bucket
        return [int(allowed), burst, max(0, int(bucket.level // per)), retry, bucket.reset_after(Decimal(rate), full)]

    def _acquire(self, words: Words) -> list[int]:
        key, most, holder = words.take(), words.integer("max", 0), words.name("holder", 512)
        ttl = 0
        while words.left():
            option = words.take().upper()
            if option == b"TTL":
                ttl = words.integer("TTL", 1, LONGEST)
            elif option == b"BLOCK":
                words.integer("BLOCK", 0, LONGEST)  # It never waits: nobody else can come meanwhile.
            else:
                raise refused(f"unknown option: {option.decode('utf-8', 'replace')}")
        if not ttl:
            raise refused("missing option: TTL")
        slots = self._at(key, Slots) or Slots()
        reply = slots.acquire(self.now_ms, most, holder, ttl)
        if reply[0]:
            self._keys[key] = slots
        return reply

    def _renew(self, words: Words) -> int:
        slots, holder = self._at(words.take(), Slots), words.name("holder", 512)
        words.take()
        ttl = words.integer("TTL", 1, LONGEST)
        if slots is None or slots.holders.get(holder, (0, 0))[0] <= self.now_ms:
            return 0
        slots.holders[holder] = (self.now_ms + ttl, slots.holders[holder][1])
        return 1

    def _release(self, words: Words) -> int:
        slots, holder = self._at(words.take(), Slots), words.name("holder", 512)
        if slots is None:
            return 0
        slots.prune(self.now_ms)
        return int(slots.holders.pop(holder, None) is not None)

    # Money.

    def _addcost(self, words: Words) -> bytes:
        key, given = words.take(), words.take("amount")
        at, charge_id, refund = self.now_ms, b"", False
        while words.left():
            option = words.take().upper()
            if option == b"AT":
                # Whoever sends it has the real clock: what is later than here is now.
                at = min(words.integer("AT", 0), self.now_ms)
            elif option == b"ID":
                charge_id = words.name("ID", 512)
            elif option == b"REFUND":
                refund = True
            else:
                raise refused(f"unknown option: {option.decode('utf-8', 'replace')}")
        value = amount(given, "amount", negative=refund)
        if refund and value > 0:
            raise refused("REFUND requires a negative amount: amount")
        ledger = self._made(key, Ledger, Ledger)
        if charge_id in ledger.charges:
            at = ledger.charges[charge_id][1]
        elif charge_id in ledger.holds and ledger.holds[charge_id].state == "committed":
            at = ledger.holds[charge_id].at
        elif charge_id in ledger.holds:
            raise refused("a hold has this id: ID")
        else:
            if charge_id:
                ledger.charges[charge_id] = (value, at)
            ledger.charge(value, at)
        return plain(ledger.spent(b"MONTH", at))

    def _spent(self, words: Words) -> bytes:
        ledger = self._at(words.take(), Ledger)
        period, at = b"MONTH", self.now_ms
        while words.left():
            option = words.take().upper()
            if option in PERIODS:
                period = option
            elif option == b"DATE":
                at = unix_ms_of(words.take("DATE"))
            else:
                raise NotInFake(f"the option {option.decode('utf-8', 'replace')} of GW.SPENT")
        return plain(ledger.spent(period, at) if ledger is not None else Decimal(0))

    def _budgets(self, words: Words, options: tuple[bytes, ...]) -> list[tuple[Decimal, bytes]]:
        budgets: list[tuple[Decimal, bytes]] = []
        while words.left() and words.peek() not in options:
            value = amount(words.take("budget"), "budget")
            period = words.take("period").upper() if words.peek() in PERIODS else b"MONTH"
            budgets.append((value, period))
        return budgets

    def _withinbudget(self, words: Words) -> list[Any]:
        ledger = self._at(words.take(), Ledger) or Ledger()
        budgets = self._budgets(words, (b"COST",))
        cost = None
        if words.left():
            words.take()
            cost = amount(words.take("COST"), "COST")
        within = all(ledger.has_room(budget, period, self.now_ms, cost) for budget, period in budgets)
        return [int(within), *ledger.tightest(budgets, self.now_ms)]

    def _reserve(self, words: Words) -> list[Any]:
        from ._ledger import Hold

        key, estimate = words.take(), amount(words.take("estimate"), "estimate")
        budgets = self._budgets(words, (b"TTL", b"ID"))
        ttl, hold_id = 300_000, b""
        while words.left():
            if words.take().upper() == b"TTL":
                ttl = words.integer("TTL", 1, LONGEST)
            else:
                hold_id = words.name("ID", 512)
        hold_id = hold_id or f"fake:{len(self.calls)}".encode()
        ledger = self._made(key, Ledger, Ledger)
        hold = ledger.holds.get(hold_id)
        if hold is not None and not hold.state and hold.end > self.now_ms:
            return [1, hold_id, *ledger.tightest(budgets, self.now_ms)]
        if hold is not None or hold_id in ledger.charges:
            raise refused("id already used: ID")
        granted = all(ledger.has_room(budget, period, self.now_ms, estimate) for budget, period in budgets)
        if granted:
            ledger.holds[hold_id] = Hold(estimate, self.now_ms, self.now_ms + ttl)
        return [int(granted), hold_id if granted else None, *ledger.tightest(budgets, self.now_ms)]

    def _commit(self, words: Words) -> list[Any]:
        ledger, hold_id = self._at(words.take(), Ledger) or Ledger(), words.name("hold-id", 512)
        return ledger.end(hold_id, self.now_ms, amount(words.take("actual"), "actual"))

    def _cancel(self, words: Words) -> list[Any]:
        ledger = self._at(words.take(), Ledger) or Ledger()
        return ledger.end(words.name("hold-id", 512), self.now_ms, None)

    # Accounts.

    def _account(self, key: bytes) -> Account | None:
        """An account; a ledger without policies is none."""
        found = self._at(key, Ledger)
        return found if isinstance(found, Account) and (found.policies or found.cooldown_until > self.now_ms) else None

    def _made_account(self, key: bytes) -> Account:
        found = self._at(key, Ledger)
        if isinstance(found, Account):
            return found
        account = Account()
        if found is not None:
            account.sums, account.holds, account.charges = found.sums, found.holds, found.charges
        self._keys[key] = account
        return account

    def _policyset(self, words: Words) -> int:
        key, name = words.take(), words.name("name", 64)
        return int(self._made_account(key).set_policy(name, words, self.now_ms))

    def _policyput(self, words: Words) -> int:
        key, document = words.take(), words.take("json")
        if b"NX" in [word.upper() for word in words.rest()] and self._account(key) is not None:
            return 0
        self._made_account(key).put_document(document, self.now_ms)
        return 1

    def _policydel(self, words: Words) -> int:
        account = self._account(words.take())
        return int(account is not None and account.policies.pop(words.take(), None) is not None)

    def _asked(self, words: Words, most: int) -> tuple[list[bytes], dict[bytes, Any], dict[bytes, Decimal]]:
        """Keys, options, amounts."""
        keys = words.keys(most)
        options: dict[bytes, Any] = {}
        amounts: dict[bytes, Decimal] = {}
        while words.left():
            word = words.take()
            option = word.upper()
            if option == b"LEASE":
                options[option] = words.name("LEASE", 512)
            elif option in (b"TTL", b"COOLDOWN", b"TOOK"):
                options[option] = words.integer(option.decode(), 0 if option == b"TOOK" else 1, LONGEST)
            elif option in (b"ROWS", b"PICK"):
                options[option] = words.take(option.decode()).upper()
            elif option in RESERVED:
                options[option] = True
            else:
                amounts[word] = amount(words.take(word.decode("utf-8", "replace")), word.decode("utf-8", "replace"))
        if b"LEASE" not in options:
            raise refused("missing option: LEASE")
        return keys, options, amounts

    def _told(self, rows: list[list[Any]], which: bytes) -> list[list[Any]]:
        if which == b"NONE":
            return []
        kept = [row for row in rows if which != b"REFUSED" or not row[2]]
        return kept if which == b"DETAIL" else [row[:7] for row in kept]

    def _admit(self, words: Words) -> list[Any]:
        keys, options, amounts = self._asked(words, 15)
        amounts.setdefault(b"requests", Decimal(1))
        if b"TTL" not in options:
            raise refused("missing option: TTL")
        accounts = {key: self._account(key) for key in keys}
        for key, account in accounts.items():
            if account is None and b"REQUIRE" in options:
                raise refused(f"no such account: {key.decode('utf-8', 'surrogateescape')}", "NOACCOUNT")
        found = {key: account for key, account in accounts.items() if account is not None}
        return self._decided(found, options, amounts)

    def _decided(
        self, accounts: dict[bytes, Account], options: dict[bytes, Any], amounts: dict[bytes, Decimal]
    ) -> list[Any]:
        lease, now = options[b"LEASE"], self.now_ms
        known = {key: account.admissions[lease] for key, account in accounts.items() if lease in account.admissions}
        if any(one.settled or one.end <= now for one in known.values()):
            raise refused(f"lease has ended: {lease.decode('utf-8', 'surrogateescape')}", "LEASEENDED")
        rows = {key: account.rows(key, amounts, now) for key, account in accounts.items() if key not in known}
        refuses = [key for key in rows if accounts[key].refuses(rows[key])]
        waits = [row[5] for key in refuses for row in rows[key] if not row[2]]
        retry = -1 if -1 in waits else max(waits, default=0)
        shadow = b"SHADOW" in options
        if not refuses and not shadow:
            for key in rows:
                accounts[key].take(lease, amounts, now, now + options[b"TTL"])
        told: list[list[Any]] = []
        for key, account in accounts.items():
            after = account.rows(key, amounts, now)
            if key in known:
                after = [[*row[:2], 1, *row[3:5], 0, *row[6:]] for row in after]
            elif not refuses or shadow:
                # What is left now, and what was decided before.
                after = [
                    [*row[:2], *old[2:3], *row[3:5], old[5], *row[6:]]
                    for row, old in zip(after, rows[key], strict=True)
                ]
            told += after
        allowed = not refuses or shadow
        return [int(allowed), retry, self._told(told, options.get(b"ROWS", b"ALL"))]

    def _route(self, words: Words) -> list[Any]:
        keys, options, amounts = self._asked(words, 63)
        amounts.setdefault(b"requests", Decimal(1))
        found = {key: account for key in keys if (account := self._account(key)) is not None}
        if not found:
            raise refused(f"no such account: {keys[0].decode('utf-8', 'surrogateescape')}", "NOACCOUNT")
        which = options.pop(b"ROWS", b"NONE")
        # The first that admits it, whatever PICK says.
        known = [key for key, account in found.items() if options[b"LEASE"] in account.admissions]
        chosen = known[0] if known else None
        for key, account in found.items():
            if chosen is None and not account.refuses(account.rows(key, amounts, self.now_ms)):
                chosen = key
        rows: list[list[Any]] = []
        waits: list[int] = []
        for key in keys:
            account = found.get(key)
            if account is None:
                rows.append([key, b"NOACCOUNT", 0, 0, 0, -1, -1])
            elif key == chosen:
                rows += self._decided({key: account}, {**options, b"ROWS": b"ALL"}, amounts)[2]
            else:
                own = account.rows(key, amounts, self.now_ms)
                rows += own
                if account.refuses(own):
                    refusing = [row[5] for row in own if not row[2]]
                    waits += [] if -1 in refusing else [max(refusing)]
        retry = 0 if chosen is not None else min(waits, default=-1)
        return [chosen, retry, self._told(rows, which)]

    def _settle(self, words: Words) -> bytes:
        keys, options, used = self._asked(words, 15)
        outcomes: list[str] = []
        for key in keys:
            account = self._at(key, Ledger)
            if not isinstance(account, Account):
                continue
            outcomes.append(account.settle(options[b"LEASE"], used, self.now_ms))
            if b"COOLDOWN" in options and outcomes[-1] in ("SETTLED", "LATE"):
                account.cooldown_until = max(account.cooldown_until, self.now_ms + options[b"COOLDOWN"])
        best = next((one for one in ("SETTLED", "LATE", "REPEATED") if one in outcomes), "UNKNOWN")
        return best.encode()

    def _keepalive(self, words: Words) -> int:
        keys, options, _ = self._asked(words, 15)
        live = 0
        for key in keys:
            account = self._at(key, Ledger)
            admission = account.admissions.get(options[b"LEASE"]) if isinstance(account, Account) else None
            if admission is not None and not admission.settled and admission.end > self.now_ms:
                admission.end = self.now_ms + options[b"TTL"]
                live += 1
        return live

    # The cache.

    def _entry(self, key: bytes) -> Entry | None:
        entry = self._at(key, Entry)
        if entry is not None and entry.until <= self.now_ms:
            del self._keys[key]
            return None
        return entry

    def _answer(self, entry: Entry | None) -> list[Any]:
        if entry is None:
            return [b"MISS", None, 0, 0, 0]
        now = self.now_ms
        fresh = now < entry.fresh_until
        left = (entry.fresh_until if fresh else entry.until) - now
        return [b"HIT" if fresh else b"STALE", entry.value, now - entry.at, left, 0]

    def _cacheget(self, words: Words) -> Any:
        entry = self._entry(words.take())
        if words.peek() == b"META":
            return self._answer(entry)
        return entry.value if entry is not None else None

    def _cachefetch(self, words: Words) -> Any:
        key, meta, lease, holder, touch = words.take(), False, 0, b"", False
        while words.left():
            option = words.take().upper()
            if option == b"LEASE":
                lease = words.integer("LEASE", 1, 3_600_000)
            elif option == b"HOLDER":
                holder = words.name("HOLDER", 512)
            elif option == b"WAIT":
                words.integer("WAIT", 1, 3_600_000)  # It never waits.
            elif option == b"CATEGORY":
                words.name("CATEGORY", 64)
            elif option == b"META":
                meta = True
            elif option == b"TOUCH":
                touch = True
            else:
                raise refused(f"unknown option: {option.decode('utf-8', 'replace')}")
        entry = self._entry(key)
        if entry is not None and touch:
            entry.touch(self.now_ms)
        answer = self._answer(entry)
        if lease and answer[0] != b"HIT":
            token, left = self._fills.ask(key, self.now_ms, lease, holder)
            answer[4] = token
            if entry is None:
                answer[0], answer[3] = b"MISS" if token else b"PENDING", left
        return answer if meta or lease else answer[1]

    def _cacheset(self, words: Words) -> bytes | None:
        key, value = words.take(), words.take()
        fresh, stale, category, tags, token = 3_600_000, 0, category_of(key), list[bytes](), 0
        while words.left():
            option = words.take().upper()
            if option == b"EX":
                fresh = words.integer("EX", 1, 31_622_400) * 1000
            elif option == b"PX":
                fresh = words.integer("PX", 1, LONGEST)
            elif option == b"STALE":
                stale = words.integer("STALE", 0, LONGEST)
            elif option == b"CATEGORY":
                category = words.name("CATEGORY", 64)
            elif option == b"TAG":
                tags.append(words.name("TAG", 256))
            elif option == b"SAVED":
                amount(words.take("SAVED"), "SAVED")
            elif option == b"TOKEN":
                token = words.integer("TOKEN", 1)
            else:
                raise refused(f"unknown option: {option.decode('utf-8', 'replace')}")
        self._at(key, Entry)
        if token and not (self._fills.end(key, token, self.now_ms) and self._fills.may_store(token, category, tags)):
            return None
        self._fills.leases.pop(key, None)
        self._keys[key] = Entry(value, self.now_ms, fresh, stale, category, tags)
        return b"OK"

    def _cacherelease(self, words: Words) -> int:
        key = words.take()
        return int(self._fills.end(key, words.integer("token", 1), self.now_ms))

    def _cachedel(self, words: Words) -> int:
        return self._clear([key for key in words.rest() if self._entry(key) is not None])

    def _cacheclear(self, words: Words) -> int:
        by, name = words.take().upper(), words.take() if words.left() else b""
        if by not in (b"TAG", b"CATEGORY", b"ALL"):
            raise NotInFake(f"GW.CACHECLEAR {by.decode('utf-8', 'replace')}")
        found: list[bytes] = []
        for key in list(self._keys):
            entry = self._entry(key) if isinstance(self._keys[key], Entry) else None
            if entry is not None and (by == b"ALL" or name in (entry.tags if by == b"TAG" else [entry.category])):
                found.append(key)
        self._fills.cleared[(by, name)] = self._fills.last_token
        return self._clear(found)

    def _clear(self, keys: list[bytes]) -> int:
        for key in keys:
            self._keys.pop(key, None)
            self._fills.leases.pop(key, None)
        return len(keys)

    def _cachekey(self, words: Words) -> bytes:
        prefix, text = words.take(), words.take()
        ignored = [word.decode() for word in words.rest()[1:]]
        try:
            return cache_key(prefix.decode(), json.loads(text), ignore=ignored).encode()
        except (ValueError, NotCanonical) as error:
            if ":" in prefix.decode():
                category, _, tenant = prefix.decode().partition(":")
                return cache_key(category, json.loads(text), tenant=tenant, ignore=ignored).encode()
            raise refused("not valid JSON: at byte 0") from error

    # Log queues.

    def _logpush(self, words: Words) -> list[int]:
        key, most, size, reject, as_json, push_id = words.take(), 1_000_000, 64 * 1024 * 1024, False, False, b""
        while words.peek() in (b"MAXLEN", b"MAXBYTES", b"REJECT", b"JSON", b"ID"):
            option = words.take().upper()
            if option == b"MAXLEN":
                most = words.integer("MAXLEN", 1, 2**62)
            elif option == b"MAXBYTES":
                size = words.integer("MAXBYTES", 1, 2**62)
            elif option == b"ID":
                push_id = words.name("ID", 512)
            else:
                reject, as_json = reject or option == b"REJECT", as_json or option == b"JSON"
        if words.peek() == b"RECORDS":
            words.take()
        records = words.rest()
        if not records:
            raise refused("missing value: record")
        for at, record in enumerate(records):
            if as_json and not is_json(record):
                raise refused(f"not valid JSON: record {at} at byte 0")
        return self._made(key, Queue, Queue).push(records, most, size, reject, push_id)

    def _loglen(self, words: Words) -> int:
        queue = self._at(words.take(), Queue)
        return len(queue.records) if queue is not None else 0

    def _logpeek(self, words: Words) -> list[bytes]:
        queue, count, size = self._at(words.take(), Queue), 10, 2**62
        while words.left():
            if words.take().upper() == b"COUNT":
                count = words.integer("COUNT", 1, 10_000)
            else:
                size = words.integer("MAXBYTES", 1, 2**62)
        found: list[bytes] = []
        for record in queue.records if queue is not None else ():
            size -= len(record)
            if len(found) == count or size < 0:
                break
            found.append(record)
        return found

    def _stats(self, words: Words) -> dict[bytes, int]:
        return {b"calls": len(self.calls)}


def category_of(key: bytes) -> bytes:
    before, colon, _ = key.partition(b":")
    return before if colon and 1 <= len(before) <= 64 else b"default"


def is_json(record: bytes) -> bool:
    try:
        json.loads(record)
    except ValueError:
        return False
    return True


def unix_ms_of(day: bytes) -> int:
    from datetime import date

    try:
        return milliseconds(date.fromisoformat(day.decode() + ("-01" if len(day) == 7 else "")))
    except ValueError:
        raise refused("not a date as yyyy-mm or yyyy-mm-dd: DATE") from None
