"""A cluster: all accounts of a request are in one slot. The hooks are called as LiteLLM calls them, without a proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from litellm.caching.dual_cache import DualCache
from litellm.proxy._types import UserAPIKeyAuth

from proxies import LONG
from redis_gateway_litellm import GatewayLogger, PluginSettings
from servers import Server, cluster, missing

PAYLOAD = {"response_cost": 0.05, "prompt_tokens": 10, "completion_tokens": 20}


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Server]]:
    if missing():
        pytest.skip(str(missing()))
    made = cluster()
    yield made
    for node in made:
        node.close()


# Each of them would be in a slot of its own, if accounts were not kept in one.
LIMITS: dict[str, Any] = {
    "rpm_limit": 100,
    "user_id": "ann",
    "user_rpm_limit": 100,
    "team_id": "research",
    "team_rpm_limit": 100,
    "org_id": "lab",
    "organization_rpm_limit": 100,
    "metadata": {"model_rpm_limit": {"gpt-4o": 100}},
}


@pytest.mark.parametrize(
    "binds",
    [{"user_rpm_limit": 2}, {"metadata": {"model_rpm_limit": {"gpt-4o": 2}}}],
    ids=["of the user", "of the key for the model"],
)
def test_all_policies_of_a_request_are_asked_at_once(nodes: list[Server], binds: dict[str, Any]) -> None:
    """Exactly so many pass as the smallest limit says, whichever it is: no node says CROSSSLOT."""
    for node in nodes:
        node.run("FLUSHALL")
    auth = UserAPIKeyAuth(api_key="sk-cluster", **{**LIMITS, **binds})

    async def request(logger: GatewayLogger, number: int) -> int:
        data = {"model": "gpt-4o", "messages": [], "litellm_call_id": f"call-{number}"}
        told = {"litellm_call_id": data["litellm_call_id"], "standard_logging_object": PAYLOAD}
        try:
            await logger.async_pre_call_hook(auth, DualCache(), data, "acompletion")
        except Exception as error:
            return int(getattr(error, "status_code", 0))
        await logger.async_pre_call_deployment_hook(told, "acompletion")
        await logger.async_log_success_event(told, None, None, None)
        return 200

    async def main() -> list[int]:
        url = f"redis://127.0.0.1:{nodes[0].port}"
        logger = GatewayLogger(PluginSettings(url=url, cluster=True, timeout=5.0))
        gateway = logger.running.gateway
        codes = await asyncio.gather(*(asyncio.create_task(request(logger, number)) for number in range(5)))
        for account in ("user:ann", "team:research"):
            while await gateway.budgets.spent(f"{{litellm}}:{account}", "TOTAL") != Decimal("0.1"):
                await asyncio.sleep(0.01)
        await gateway.aclose()
        return sorted(codes)

    assert asyncio.run(asyncio.wait_for(main(), LONG)) == [200, 200, 429, 429, 429]
