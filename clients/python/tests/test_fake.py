"""The in-memory fake: the recorded calls of the spec, and a gateway over it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from redis_gateway import AsyncGateway, Away, Denied, Gateway, GatewayError, Settings
from redis_gateway.testing import FakeRedis, NotInFake
from test_vectors_replies import expected, plain, request_of
from vectors import from_json, load, name_of

CASES = load("replies.json")["cases"]
SETUPS = {case["name"]: case.get("setup", []) for case in load("replies.in.json")["cases"]}
# What is random, or follows the clock of the server that was recorded.
VARYING = {"fencing_token": 0, "token": 0}

# The calls that the fake has. The cases of others are refused by name.
METHODS = frozenset(
    (
        "acquire add-cost admit allow cache-clear-all cache-clear-category cache-clear-tag cache-del cache-fetch "
        "cache-fetch-meta cache-get cache-get-meta cache-key cache-lease cache-release cache-set cancel commit "
        "keep-alive log-len log-peek log-push policy-del policy-put policy-set release renew reserve route settle "
        "spent tokens within-budget"
    ).split(" ")
)
# Of these calls it does not have what the case is about: breakers, credits, windows with an anchor.
WITHOUT = {
    "a window's policy",
    "a breaker's policy",
    "a commit of a credit's id",
    "admitted, every kind of policy in detail",
}


def prepared(case: Any) -> FakeRedis:
    fake = FakeRedis()
    for words in SETUPS[case["name"]]:
        if words == "BLPOP no:such:list 0.05":
            fake.advance(0.05)
        else:
            fake.execute(*(words.split() if isinstance(words, str) else map(from_json, words)))
    return fake


def alike(found: Any, wanted: Any) -> None:
    if isinstance(wanted, dict):
        assert isinstance(found, dict) and found.keys() == wanted.keys()
        for name, value in wanted.items():
            if name in VARYING:
                assert (found[name] > 0) == (value > 0), name
            elif name.endswith("_ms") and isinstance(value, int) and value > 1_000_000:
                # Until the end of a month: the recorded server had another clock. Or a millisecond has passed there.
                assert found[name] > 0
            else:
                alike(found[name], value)
    elif isinstance(wanted, list):
        assert isinstance(found, list) and len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            alike(one, other)
    else:
        assert found == wanted


@pytest.mark.parametrize("case", [case for case in CASES if case["method"] in METHODS], ids=name_of)
def test_a_vector_of_replies(case: Any) -> None:
    if case["name"] in WITHOUT:
        with pytest.raises(NotInFake):
            prepared(case).execute(*request_of(case).args)
        return
    fake = prepared(case)
    request = request_of(case)
    if case["name"] == "a fill lease is given up":
        request = type(request)((*request.args[:2], fake._fills.last_token), request.decode, True)
    alike(plain(request.decode(fake.execute(*request.args))), expected(case, "resp2"))


@pytest.mark.parametrize("case", [case for case in CASES if case["method"] not in [*METHODS, "stats"]], ids=name_of)
def test_other_commands_are_refused_by_name(case: Any) -> None:
    with pytest.raises(NotInFake):
        FakeRedis().execute(*request_of(case).args)


def test_a_vector_of_errors_and_amounts() -> None:
    fake = FakeRedis()
    for case in load("amounts.json")["texts"]:
        ledger = f"ledger:{case['given']}"
        words = ("GW.ADDCOST", ledger, case["given"], *(("REFUND",) if case["given"].startswith("-") else ()))
        if "error" in case:
            with pytest.raises(GatewayError) as error:
                fake.execute(*words)
            assert error.value.text == f"{case['error']}: amount", case
        else:
            assert fake.execute(*words) == case["value"].encode(), case
    known = {case["type"] for case in load("errors.json")["cases"]}
    fake.execute("GW.POLICYSET", "a", "rpm", "WINDOW", 1, "PER", 60000)
    fake.execute("GW.ADMIT", "a", "LEASE", "1", "TTL", 1)
    fake.advance(1)
    for words, kind, text in (
        (("GW.ADMIT", "a", "LEASE", "1", "TTL", 1), "LeaseEnded", "lease has ended: 1"),
        (("GW.ADMIT", "b", "LEASE", "1", "TTL", 1, "REQUIRE"), "NoAccount", "no such account: b"),
        (("GW.ROUTE", "b", "LEASE", "1", "TTL", 1), "NoAccount", "no such account: b"),
        (("GW.COMMIT", "l", "h", 1), "NoHold", "no such hold: it was never made, or is forgotten"),
        (
            ("GW.LOGPUSH", "q", "MAXLEN", 1, "REJECT", "RECORDS", "a", "b"),
            "QueueFull",
            "the queue is full: nothing was stored",
        ),
        (("GW.ALLOW", "a", 1), "WrongType", "Operation against a key holding the wrong kind of value"),
        (("GW.ALLOW", "k", -1), "InvalidArgument", "not an integer from 0 to 9007199254740992: limit"),
        (("GW.LOGPUSH", "q", "JSON", "RECORDS", "{"), "InvalidArgument", "not valid JSON: record 0 at byte 0"),
    ):
        with pytest.raises(GatewayError) as error:
            fake.execute(*words)
        assert (type(error.value).__name__, error.value.text) == (kind, text)
        assert kind in known


def test_the_gateway_works_without_a_server() -> None:
    fake = FakeRedis()
    with Gateway(fake, Settings(away=Away(admission="open"))) as gateway:
        gateway.commands.policy_put("a", '{"policies":[{"name":"rpm","kind":"window","limit":2,"per_ms":60000}]}')
        with gateway.admit("a", {"usd": "1"}) as admission:
            admission.use(usd="0.25")
        assert admission.settlement is not None and admission.settlement.outcome == "settled"
        assert str(gateway.budgets.spent("a")) == "0.25"
        with gateway.admit("a"), gateway.admit("a") as denied:
            assert denied.reason == "limit" and denied.headers()["Retry-After"] == "60"
            with pytest.raises(Denied):
                denied.raise_if_denied()
        cache = gateway.cache("chat", tenant="ml")
        assert [cache.get_or_compute({"a": 1}, lambda: "answer") for _ in range(2)] == ["answer"] * 2
        assert cache.clear() == 1 and cache.get({"a": 1}) is None
        with gateway.lock("l") as lock:
            assert lock.ok and not gateway.lock("l").ok
        with gateway.budgets.reserve("l2", 1, [(5, "MONTH")]) as hold:
            hold.use("0.5")
        logs = gateway.logs("log")
        logs.push({"id": 1})
        assert logs.flush() and json.loads(fake.execute("GW.LOGPEEK", "log")[0]) == {"id": 1}
        assert gateway.health().ok
        fake.away = True
        assert gateway.admit("a").outcome == "degraded" and not gateway.health().ok
        assert gateway.budgets.charge("l2", 1).outcome == "kept"
        fake.away = False
        gateway.send_kept()
        assert str(gateway.budgets.spent("l2")) == "1.5"


def test_the_clock_is_the_tests() -> None:
    fake = FakeRedis()
    with Gateway(fake) as gateway:
        assert [gateway.allow("k", 2).outcome for _ in range(3)] == ["admitted", "admitted", "denied"]
        fake.advance(59.999)
        assert not gateway.allow("k", 2).ok
        fake.advance(0.001)
        assert gateway.allow("k", 2).ok
        gateway.cache("chat", ttl=10).set({}, 1)
        fake.advance(10)
        assert gateway.cache("chat").get({}) is None


async def test_asynchronous() -> None:
    async with AsyncGateway(FakeRedis()) as gateway:
        async with await gateway.admit("a", {"usd": 1}) as admission:
            assert admission.ok
        assert (await gateway.tokens("t", 1, 1)).ok and not (await gateway.tokens("t", 1, 1)).ok
