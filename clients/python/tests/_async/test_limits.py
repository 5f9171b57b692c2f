"""Limits and budgets."""

from __future__ import annotations

from decimal import Decimal

import pytest

from redis_gateway import InvalidArgument
from servers import Server

from ._runtime import gateway_on, together


async def test_windows_and_buckets(server: Server) -> None:
    async with gateway_on(server.port) as gateway:
        assert (await gateway.allow("k", 3, cost=2)).remaining == 1
        assert (await gateway.allow("k", 3, peek=True)).ok
        denied = await gateway.allow("k", 3, cost=2)
        assert (denied.outcome, denied.reason, denied.limit, denied.remaining) == ("denied", "limit", 3, 1)
        assert 0 < denied.retry_after_ms <= 60_000
        assert (await gateway.allow("k", 3, cost=4)).retry_after_ms == -1
        assert (await gateway.tokens("t", 10, 20, cost=15)).remaining == 5
        assert not (await gateway.tokens("t", 10, 20, cost=15, per=3600)).ok
        with pytest.raises(InvalidArgument) as error:
            await gateway.allow("k", -1)
        assert error.value.argument == "limit"


async def test_budgets_and_holds(server: Server) -> None:
    async with gateway_on(server.port) as gateway:
        budgets = gateway.budgets
        assert (await budgets.charge("l", "1.5")).outcome == "settled"
        assert (await budgets.charge("l", Decimal("0.5"), id="one")).outcome == "settled"
        assert (await budgets.charge("l", Decimal("0.5"), id="one")).outcome == "settled"
        assert await budgets.spent("l") == 2
        assert (await budgets.charge("l", "-0.5", refund=True)).outcome == "settled"
        within = await budgets.within("l", [(2, "MONTH"), (100, "TOTAL")], cost="0.25")
        assert (within.ok, within.period, within.spent, within.remaining) == (
            True,
            "MONTH",
            Decimal("1.5"),
            Decimal("0.5"),
        )
        assert (await budgets.within("l", [(1, "MONTH")])).reason == "limit"
        async with await budgets.reserve("l", "0.5", [(2, "MONTH")]) as hold:
            assert hold.ok and hold.decision.held == Decimal("0.5")
            refused = await budgets.reserve("l", "0.5", [(2, "MONTH")])
            assert (refused.ok, refused.decision.reason) == (False, "limit")
            assert await refused.commit() is None
            hold.use("0.125")
        assert await budgets.spent("l") == Decimal("1.625")
        cancelled = await budgets.reserve("l", "0.25", [(2, "MONTH")])
        assert (await cancelled.cancel()).outcome == "settled"
        assert await budgets.spent("l") == Decimal("1.625")
        forgotten = await budgets.reserve("l", "0.25", [(2, "MONTH")])
        server.run("DEL l")
        assert (await forgotten.commit("0.2")).outcome == "charged"
        assert await budgets.spent("l") == Decimal("0.2")


async def test_headers_of_a_limit(server: Server) -> None:
    async with gateway_on(server.port) as gateway:
        await gateway.allow("k", 1, window=30)
        headers = (await gateway.allow("k", 1, window=30)).headers()
        assert headers["RateLimit-Policy"] == '"requests";q=1;w=30'
        assert headers["x-ratelimit-remaining-requests"] == "0" and 0 < int(headers["Retry-After"]) <= 30


async def test_holds_end_once(server: Server) -> None:
    async with gateway_on(server.port) as gateway:
        budgets = gateway.budgets
        with pytest.raises(ZeroDivisionError):
            async with await budgets.reserve("l", "0.5", [(2, "MONTH")]) as hold:
                hold.use("0.25")
                raise ZeroDivisionError
        assert await hold.commit(1) is None and await hold.cancel() is None
        await together(*[lambda: hold.commit("1")] * 4)
        hold = await budgets.reserve("l", "0.5", [(2, "MONTH")])
        await together(*[lambda: hold.commit("0.5")] * 8)
        assert await budgets.spent("l") == Decimal("0.75")
