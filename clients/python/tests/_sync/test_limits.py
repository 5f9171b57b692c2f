# Generated from ../_async/test_limits.py by tools/unasync.py. Do not edit.
"""Limits and budgets."""

from __future__ import annotations

from decimal import Decimal

import pytest

from redis_gateway import InvalidArgument
from servers import Server

from ._runtime import gateway_on, together


def test_windows_and_buckets(server: Server) -> None:
    with gateway_on(server.port) as gateway:
        assert (gateway.allow("k", 3, cost=2)).remaining == 1
        assert (gateway.allow("k", 3, peek=True)).ok
        denied = gateway.allow("k", 3, cost=2)
        assert (denied.outcome, denied.reason, denied.limit, denied.remaining) == ("denied", "limit", 3, 1)
        assert 0 < denied.retry_after_ms <= 60_000
        assert (gateway.allow("k", 3, cost=4)).retry_after_ms == -1
        assert (gateway.tokens("t", 10, 20, cost=15)).remaining == 5
        assert not (gateway.tokens("t", 10, 20, cost=15, per=3600)).ok
        with pytest.raises(InvalidArgument) as error:
            gateway.allow("k", -1)
        assert error.value.argument == "limit"


def test_budgets_and_holds(server: Server) -> None:
    with gateway_on(server.port) as gateway:
        budgets = gateway.budgets
        assert (budgets.charge("l", "1.5")).outcome == "settled"
        assert (budgets.charge("l", Decimal("0.5"), id="one")).outcome == "settled"
        assert (budgets.charge("l", Decimal("0.5"), id="one")).outcome == "settled"
        assert budgets.spent("l") == 2
        assert (budgets.charge("l", "-0.5", refund=True)).outcome == "settled"
        within = budgets.within("l", [(2, "MONTH"), (100, "TOTAL")], cost="0.25")
        assert (within.ok, within.period, within.spent, within.remaining) == (
            True,
            "MONTH",
            Decimal("1.5"),
            Decimal("0.5"),
        )
        assert (budgets.within("l", [(1, "MONTH")])).reason == "limit"
        with budgets.reserve("l", "0.5", [(2, "MONTH")]) as hold:
            assert hold.ok and hold.decision.held == Decimal("0.5")
            refused = budgets.reserve("l", "0.5", [(2, "MONTH")])
            assert (refused.ok, refused.decision.reason) == (False, "limit")
            assert refused.commit() is None
            hold.use("0.125")
        assert budgets.spent("l") == Decimal("1.625")
        cancelled = budgets.reserve("l", "0.25", [(2, "MONTH")])
        assert (cancelled.cancel()).outcome == "settled"
        assert budgets.spent("l") == Decimal("1.625")
        forgotten = budgets.reserve("l", "0.25", [(2, "MONTH")])
        server.run("DEL l")
        assert (forgotten.commit("0.2")).outcome == "charged"
        assert budgets.spent("l") == Decimal("0.2")


def test_headers_of_a_limit(server: Server) -> None:
    with gateway_on(server.port) as gateway:
        gateway.allow("k", 1, window=30)
        headers = (gateway.allow("k", 1, window=30)).headers()
        assert headers["RateLimit-Policy"] == '"requests";q=1;w=30'
        assert headers["x-ratelimit-remaining-requests"] == "0" and 0 < int(headers["Retry-After"]) <= 30


def test_holds_end_once(server: Server) -> None:
    with gateway_on(server.port) as gateway:
        budgets = gateway.budgets
        with pytest.raises(ZeroDivisionError):
            with budgets.reserve("l", "0.5", [(2, "MONTH")]) as hold:
                hold.use("0.25")
                raise ZeroDivisionError
        assert hold.commit(1) is None and hold.cancel() is None
        together(*[lambda: hold.commit("1")] * 4)
        hold = budgets.reserve("l", "0.5", [(2, "MONTH")])
        together(*[lambda: hold.commit("0.5")] * 8)
        assert budgets.spent("l") == Decimal("0.75")
