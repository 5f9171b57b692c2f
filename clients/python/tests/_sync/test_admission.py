# Generated from ../_async/test_admission.py by tools/unasync.py. Do not edit.
"""An admission, from the question to the settlement."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any

import pytest

from redis_gateway import Away, Denied, NoAccount, Settings, Unavailable, WrongType
from redis_gateway.deliveries import GRACE_S, Delivery
from servers import Server

from ._runtime import PATIENT, gateway_on, sleep, together, until


def policies(server: Server) -> None:
    server.run("GW.POLICYSET {ml}:key rpm WINDOW 3 PER 3600000")
    server.run("GW.POLICYSET {ml}:key tpm BUCKET 1000 1000 PER 3600000 METER tokens")
    server.run("GW.POLICYSET {ml} parallel INFLIGHT 2")
    server.run("GW.POLICYSET {ml} month BUDGET 10 MONTH")


ACCOUNTS = ["{ml}:key", "{ml}"]
ESTIMATES = {"tokens": 100, "usd": "0.5"}


def described(server: Server, key: str) -> dict[str, Any]:
    flat = server.run(f"GW.DESCRIBE {key}")
    assert isinstance(flat, list)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def in_flight(server: Server, key: str) -> int:
    return int(described(server, key)["in_flight"])


def test_admitted_and_settled(server: Server) -> None:
    policies(server)
    with gateway_on(server.port) as gateway:
        with gateway.admit(ACCOUNTS, ESTIMATES) as admission:
            assert (admission.outcome, admission.reason, admission.ok, admission.status_code) == (
                "admitted",
                "",
                True,
                200,
            )
            assert in_flight(server, "{ml}") == 1
            admission.use(tokens=40, usd="0.0175")
        assert admission.settlement.outcome == "settled"
        assert in_flight(server, "{ml}") == 0
        assert server.run("GW.SPENT {ml}") == "0.0175"
        # Again: nothing more happens.
        again = admission.settle(tokens=1000, usd=9)
        assert again is admission.settlement
        assert (admission.undo()) is admission.settlement
        assert server.run("GW.SPENT {ml}") == "0.0175"
        assert gateway.figures()["decisions{family=admission,outcome=admitted,reason=none}"] == 1


def test_denied_says_why_and_when(server: Server) -> None:
    policies(server)
    with gateway_on(server.port) as gateway:
        for _ in range(3):
            with gateway.admit(ACCOUNTS, ESTIMATES):
                pass
        with gateway.admit(ACCOUNTS, ESTIMATES) as admission:
            assert (admission.outcome, admission.reason, admission.status_code) == ("denied", "limit", 429)
            # A millisecond more: the window is counted in parts of its length.
            assert 0 < admission.retry_after_ms <= 3_601_000
            assert [row.policy for row in admission.refusals] == ["rpm"]
            headers = admission.headers()
            assert headers["RateLimit-Policy"] == '"rpm";q=3;w=3600, "tpm";q=1000;w=3600'
            assert headers["RateLimit"].startswith('"rpm";r=0;t=')
            assert headers["x-ratelimit-limit-requests"] == "3"
            assert headers["anthropic-ratelimit-tokens-limit"] == "1000"
            assert int(headers["Retry-After"]) * 1000 >= admission.retry_after_ms
            with pytest.raises(Denied) as denied:
                admission.raise_if_denied()
            assert denied.value.status_code == 429 and denied.value.headers["Retry-After"] == headers["Retry-After"]
        assert admission.settlement.outcome == "nothing"


def test_unknown_meters_stay_at_their_estimate(server: Server) -> None:
    policies(server)
    with gateway_on(server.port) as gateway:
        with gateway.admit(ACCOUNTS, ESTIMATES) as admission:
            admission.use(tokens=7)
        assert server.run("GW.SPENT {ml}") == "0.5"
        with gateway.admit(ACCOUNTS, ESTIMATES) as admission:
            admission.unused()
        assert server.run("GW.SPENT {ml}") == "0.5"
        admission = gateway.admit(ACCOUNTS, ESTIMATES)
        admission.undo()
        row = next(row for row in (gateway.commands.admit("{ml}:key", lease_id="x", ttl_ms=1, shadow=True)).rows)
        assert (row.policy, row.remaining) == ("rpm", 1)


def test_settled_when_the_block_raises(server: Server) -> None:
    policies(server)
    with gateway_on(server.port) as gateway:
        with pytest.raises(ZeroDivisionError):
            with gateway.admit(ACCOUNTS, ESTIMATES) as admission:
                admission.use(usd="0.1")
                raise ZeroDivisionError
        assert admission.settlement.outcome == "settled"
        assert in_flight(server, "{ml}") == 0 and server.run("GW.SPENT {ml}") == "0.1"


def test_settles_once_when_several_settle(server: Server) -> None:
    policies(server)
    with gateway_on(server.port) as gateway:
        admission = gateway.admit(ACCOUNTS, ESTIMATES)
        together(*[lambda: admission.settle(usd="0.25")] * 8)
        assert server.run("GW.SPENT {ml}") == "0.25"
        assert gateway.figures()["settlements{outcome=settled}"] == 1


def model(pieces: int, fails_at: int = -1) -> Any:
    for at in range(pieces):
        if at == fails_at:
            raise ValueError("the model failed")
        yield {"text": f"piece{at} ", "usage": {"tokens": at + 1, "usd": f"0.0{at + 1}"}}


def usage(piece: Any) -> Any:
    return piece["usage"]


def test_stream_that_ends(server: Server) -> None:
    policies(server)
    with gateway_on(server.port) as gateway:
        admission = gateway.admit(ACCOUNTS, ESTIMATES)
        texts = []
        for piece in admission.stream(model(3), usage):
            texts.append(piece["text"])
        assert texts == ["piece0 ", "piece1 ", "piece2 "]
        assert admission.settlement.outcome == "settled" and server.run("GW.SPENT {ml}") == "0.03"


def test_stream_that_is_left(server: Server) -> None:
    policies(server)
    with gateway_on(server.port) as gateway:
        admission = gateway.admit(ACCOUNTS, ESTIMATES)
        pieces = admission.stream(model(3), usage)
        for _ in pieces:
            break
        pieces.close()
        assert admission.settlement.outcome == "settled" and server.run("GW.SPENT {ml}") == "0.01"
        assert in_flight(server, "{ml}") == 0


def test_stream_that_fails(server: Server) -> None:
    policies(server)
    with gateway_on(server.port) as gateway:
        for fails_at, spent in ((0, "0"), (2, "0.02")):
            admission = gateway.admit(ACCOUNTS, ESTIMATES)
            with pytest.raises(ValueError):
                for _ in admission.stream(model(3, fails_at), usage):
                    pass
            assert admission.settlement.outcome == "settled" and server.run("GW.SPENT {ml}") == spent
        assert in_flight(server, "{ml}") == 0


def test_an_admission_that_nobody_settles(server: Server) -> None:
    policies(server)
    settings = Settings(timeout=10, connect_timeout=10, kept=PATIENT.kept)
    with gateway_on(server.port, settings) as gateway:
        admission = gateway.admit(ACCOUNTS, ESTIMATES)
        pieces = admission.stream(model(3), usage)  # Never started.
        del admission, pieces
        until(lambda: in_flight(server, "{ml}") == 0)
        assert server.run("GW.SPENT {ml}") == "0.5"
        assert gateway.figures()["admissions_leaked"] == 1


def test_kept_alive_until_the_cap(server: Server) -> None:
    policies(server)
    settings = Settings(timeout=10, connect_timeout=10, lease_ttl=0.9, lease_cap=2.5)
    with gateway_on(server.port, settings) as gateway:
        with gateway.admit(ACCOUNTS, ESTIMATES) as admission:
            sleep(1.8)
            assert in_flight(server, "{ml}") == 1  # Twice its time to live.
            until(lambda: in_flight(server, "{ml}") == 0)
        assert admission.settlement.outcome == "late"
        assert server.run("GW.SPENT {ml}") == "0.5"


def test_unknown_is_booked_once_under_the_lease(server: Server) -> None:
    policies(server)
    with gateway_on(server.port) as gateway:
        admission = gateway.admit(ACCOUNTS, ESTIMATES)
        server.run("FLUSHALL")  # A failover that has lost the admission.
        assert (admission.settle(usd="0.2")).outcome == "charged"
        assert server.run("GW.SPENT {ml}") == "0.2"
        server.run(f"GW.ADDCOST {{ml}} 0.2 ID {admission.lease_id}")
        assert server.run("GW.SPENT {ml}") == "0.2"


def test_accounts_that_do_not_exist(server: Server) -> None:
    plans = {"new": ('{"policies":[{"name":"rpm","kind":"window","limit":1,"per_ms":60000}]}', 3600.0)}
    with gateway_on(server.port, plans=plans.get) as gateway:
        with gateway.admit(["new"], require=True) as admission:
            assert admission.ok
        with gateway.admit("new", require=True) as admission:
            assert admission.reason == "limit"
        with gateway.admit(["old", "new"], require=True) as admission:
            assert (admission.reason, admission.status_code, admission.retry_after_ms) == ("no_account", 403, -1)
        with gateway.admit("old") as admission:
            assert admission.ok
        with pytest.raises(NoAccount):
            gateway.commands.admit("old", lease_id="x", ttl_ms=1, require=True)


def test_lease_ids_are_random(server: Server) -> None:
    with gateway_on(server.port) as gateway:
        ids = {(gateway.admit("a")).lease_id for _ in range(100)}
        assert len(ids) == 100 and all(len(one) == 32 for one in ids)


def test_the_lease_is_lost_at_the_cap(server: Server) -> None:
    policies(server)
    settings = Settings(timeout=10, connect_timeout=10, lease_ttl=0.3, lease_cap=0.5)
    with gateway_on(server.port, settings) as gateway:
        with gateway.admit(ACCOUNTS, ESTIMATES) as admission:
            until(lambda: admission.lost)
        assert admission.ok


def test_a_failed_attempt_to_prolong_ends_nothing(own_server: Server) -> None:
    policies(own_server)
    settings = Settings(timeout=0.1, connect_timeout=10, lease_ttl=2, pause=0.05)
    with gateway_on(own_server.port, settings) as gateway:
        with gateway.admit(ACCOUNTS, ESTIMATES) as admission:
            with own_server.frozen():
                sleep(1.2)
            until(lambda: in_flight(own_server, "{ml}") == 1)
            sleep(1.5)
            assert in_flight(own_server, "{ml}") == 1 and not admission.lost
        assert admission.settlement.outcome == "settled"
        assert gateway.figures()["keep_alive_failed"] >= 1


def test_money_is_booked_at_the_time_of_the_admission(server: Server) -> None:
    with gateway_on(server.port) as gateway:
        admission = gateway.admit("a", {"usd": "1"})
        charges = admission._deliveries({}, None)[0].fallback
        assert charges == [["GW.ADDCOST", b"a", "1", "AT", admission._admitted_ms, "ID", admission.lease_id.encode()]]
        admission.undo()


def test_late_and_repeated_book_nothing(server: Server) -> None:
    policies(server)
    with gateway_on(server.port) as gateway:
        admission = gateway.admit(ACCOUNTS, ESTIMATES, ttl=0.05, keep_alive=False)
        until(lambda: in_flight(server, "{ml}") == 0)
        assert (admission.settle(usd="0.2")).outcome == "late"
        assert server.run("GW.SPENT {ml}") == "0.2"
        admission = gateway.admit(ACCOUNTS, ESTIMATES)
        server.run(f"GW.SETTLE {{ml}}:key WITH 1 {{ml}} LEASE {admission.lease_id} usd 0.3")
        assert (admission.settle(usd="5")).outcome == "repeated"
        assert server.run("GW.SPENT {ml}") == "0.5"


def test_use_takes_no_amount_that_the_server_would_refuse(server: Server) -> None:
    policies(server)
    with gateway_on(server.port) as gateway:
        with gateway.admit(ACCOUNTS, ESTIMATES) as admission:
            admission.use({"usd": None, "tokens": None})
            admission.use(usd="0.25", tokens=None)
            for bad in (-1, "-0.5", "abc", "", float("nan"), float("inf"), "1_000", 10**18 + 1, True):
                with pytest.raises(ValueError, match=r"^usd: an amount"):
                    admission.use(tokens=1, usd=bad)
                with pytest.raises(ValueError):
                    admission.settle(usd=bad)
            admission.use(tokens=None, usd=None)
        assert admission.settlement.outcome == "settled" and server.run("GW.SPENT {ml}") == "0.25"
        with gateway.budgets.reserve("l", 1, [(5, "MONTH")]) as hold:
            hold.use("0.5")
            with pytest.raises(ValueError):
                hold.use("abc")
            hold.use(None)
        assert server.run("GW.SPENT l") == "0.5"


def test_a_settlement_that_is_refused_can_be_repeated(server: Server) -> None:
    policies(server)
    with gateway_on(server.port) as gateway:
        admission = gateway.admit(ACCOUNTS, ESTIMATES)
        hold = gateway.budgets.reserve("l", 1, [(5, "MONTH")])
        for key in ("{ml}", "l"):
            server.run(f"RENAME {key} {key}:there")
            server.run(f"SET {key} other")
        with pytest.raises(WrongType):
            admission.settle(usd="0.25")
        with pytest.raises(WrongType):
            hold.commit("0.5")
        for key in ("{ml}", "l"):
            server.run(f"RENAME {key}:there {key}")
        assert (admission.settle()).outcome == "settled"
        assert (hold.commit()).outcome == "settled"
        assert [server.run(f"GW.SPENT {key}") for key in ("{ml}", "l")] == ["0.25", "0.5"]
        assert (admission.settle()) is admission.settlement and hold.commit() is None


def test_one_refused_delivery_holds_up_no_other(server: Server) -> None:
    """Accounts in several slots, and the charges of a lease that is forgotten."""
    with gateway_on(server.port) as gateway:
        core = gateway._core
        server.run("SET other text")
        with pytest.raises(WrongType):
            core.deliver_all([Delivery(["GW.ADDCOST", key, "1", "ID", "1"]) for key in ("a", "other", "b")])
        charges = [["GW.ADDCOST", key, "1", "ID", "2"] for key in ("other", "a", "b")]
        with pytest.raises(WrongType):
            core.deliver(Delivery(["GW.SETTLE", "nobody", "LEASE", "x"], charges))
        assert [server.run(f"GW.SPENT {key}") for key in ("a", "b")] == ["2", "2"]


def test_degraded_admissions_are_kept_alive_if_the_server_may_have_them(own_server: Server) -> None:
    policies(own_server)
    settings = Settings(timeout=0.2, connect_timeout=5, lease_ttl=1.2, pause=0.05, away=Away(admission="open"))
    with gateway_on(own_server.port, settings) as gateway:
        for ask in (lambda: gateway.admit(ACCOUNTS, ESTIMATES), lambda: gateway.route(["{ml}"], ESTIMATES)):
            gateway.health()
            own_server.freeze()
            admission = ask()
            own_server.thaw()
            assert admission.outcome == "degraded"
            until(lambda: in_flight(own_server, "{ml}") == 1)
            sleep(2.0)
            assert in_flight(own_server, "{ml}") == 1 and not admission.lost
            admission.settle(usd="0.25")
            until(lambda: in_flight(own_server, "{ml}") == 0)
        assert own_server.run("GW.SPENT {ml}") == "0.5"


def test_the_grace_of_a_late_question_counts_from_the_first_answer() -> None:
    delivery = Delivery(["GW.SETTLE", "a", "LEASE", "x"], early=True)
    assert Delivery.of(json.loads(delivery.line())) == delivery
    before = time.time()
    assert delivery.ask_again() and delivery.again_until >= before + GRACE_S
    assert Delivery.of(json.loads(delivery.line())) == delivery
    delivery.again_until = before
    assert not delivery.ask_again()
    assert not Delivery(["GW.SETTLE", "a", "LEASE", "x"]).ask_again()


def test_a_lost_question_is_charged_at_the_end(server: Server) -> None:
    """At the end nobody can wait any more for the question to come late."""
    with gateway_on(server.port, dataclasses.replace(PATIENT, away=Away(admission="open"))) as gateway:
        own, lost = gateway._core.transport.call, [True]

        def call(request: Any) -> Any:
            if lost.pop() if lost else False:
                raise Unavailable("timeout", sent=True)
            return own(request)

        gateway._core.transport.call = call
        admission = gateway.admit("a", {"usd": 1})
        assert (admission.settle(usd="0.25")).outcome == "kept"
        assert server.run("GW.SPENT a") == "0"
    assert server.run("GW.SPENT a") == "0.25"
