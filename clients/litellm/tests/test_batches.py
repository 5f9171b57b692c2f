"""What a batch has cost, from what LiteLLM tells: without a proxy."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis

from redis_gateway import AsyncGateway, Settings
from redis_gateway.testing import FakeRedis
from redis_gateway_litellm.batches import BatchCost, Batches, cost_of_batch
from servers import Server, missing

KEY = "a" * 64
OWNERS = {"user_api_key_hash": KEY, "user_api_key_team_id": "t", "user_api_key_user_id": None}
PAYLOAD = {"call_type": "aretrieve_batch", "response_cost": 0.25, "metadata": OWNERS}
COST = BatchCost("batch_1", Decimal("0.25"), (f"{{litellm}}:key:{KEY}", "{litellm}:team:t"))


def told(**more: Any) -> dict[str, Any]:
    return {"standard_logging_object": {**PAYLOAD, **more}}


def test_an_event_of_a_batch_that_has_ended() -> None:
    assert cost_of_batch(told(), SimpleNamespace(id="batch_1"), "litellm") == COST
    # A response that LiteLLM has redacted.
    assert cost_of_batch({**told(), "polled_batch_id": "batch_1"}, {}, "litellm") == COST


@pytest.mark.parametrize(
    "event", [told(response_cost=0.0), told(response_cost=None), told(call_type="acompletion"), {}], ids=repr
)
def test_other_events_cost_nothing(event: dict[str, Any]) -> None:
    assert cost_of_batch(event, SimpleNamespace(id="batch_1"), "litellm") is None


def test_it_is_charged_once_on_all_replicas() -> None:
    async def main() -> list[str]:
        server = FakeRedis()
        async with AsyncGateway(server) as one, AsyncGateway(server) as two:
            charges = [Batches(gateway, "litellm").charge(COST) for gateway in (one, two, one)]
            await asyncio.gather(*charges)
            return [str(await one.budgets.spent(account, "TOTAL")) for account in COST.accounts]

    assert asyncio.run(main()) == ["0.25", "0.25"]


@pytest.mark.skipif(bool(missing()), reason=str(missing()))
def test_it_is_kept_while_the_server_is_away() -> None:
    async def main(server: Server) -> None:
        async with AsyncGateway(Redis(port=server.port), Settings(timeout=5.0, connect_timeout=5.0)) as gateway:
            server.stop()
            await Batches(gateway, "litellm").charge(COST)
            await asyncio.to_thread(server.start)
            while gateway.kept:
                await gateway.send_kept()
                await asyncio.sleep(0.05)

    server = Server()
    try:
        asyncio.run(main(server))
        assert [server.run(f"GW.SPENT {account} TOTAL") for account in COST.accounts] == ["0.25", "0.25"]
    finally:
        server.close()
