"""GW.ROUTE picks the deployment: limits are exact over two replicas, and a deployment that fails is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from litellm import Router
from litellm.proxy import proxy_server
from litellm.types.router import RouterRateLimitError
from redis.asyncio import Redis

from proxies import Account, Stack, eventually
from redis_gateway import AsyncGateway
from redis_gateway_litellm import PluginSettings, estimates
from redis_gateway_litellm.background import Background
from redis_gateway_litellm.estimates import Prices
from redis_gateway_litellm.routing import Routing
from redis_gateway_litellm.synchronise import Synchroniser
from servers import free_port, missing
from traffic import at_once, exact_body


@pytest.fixture(scope="module")
def routed() -> Iterator[Stack]:
    if missing():
        pytest.skip(str(missing()))
    stack = Stack(replicas=2, redis_gateway={"routing": "FIRST", "timeout": 5.0, "cooldown": 60})
    yield stack
    stack.close()


@pytest.fixture
def stack(routed: Stack) -> Stack:
    for url in routed.urls:
        # The first request of a replica puts the strategy in its place.
        headers = {"Authorization": f"Bearer {routed.key('first')}"}
        httpx.post(f"{url}/v1/embeddings", json={"model": "embed", "input": "x"}, headers=headers, timeout=60)
    routed.server.run("FLUSHALL")
    routed.reset()
    return routed


def deployments(stack: Stack) -> list[Account]:
    with stack.server.admin() as admin:
        names = sorted(admin.keys("{litellm}:deployment:*"))
        told = [admin.execute_command("GW.DESCRIBE", name) for name in names]
    # The first requests may be settled after the data was removed: what they cost is booked in a ledger.
    return [Account(reply) for reply in told if reply[1] == "account"]


@pytest.mark.long
def test_limits_of_deployments_are_exact(stack: Stack) -> None:
    """2 requests a minute on one and 1 on the other: of 20 at once 3 are served."""
    told = at_once(stack, stack.key("two"), 20, exact_body("two"))
    assert told.codes == {200: 3, 429: 17}
    eventually(lambda: all(one.in_flight == 0 for one in deployments(stack)))
    assert sorted((one.counts["rpm"], one.spent) for one in deployments(stack)) == [(1, "0.05"), (2, "0.1")]
    stack.settled()


@pytest.mark.long
def test_a_deployment_that_fails_is_left_alone(stack: Stack) -> None:
    """After 3 failures the breaker opens in all replicas: nobody asks it for the next minute."""
    key = stack.key("half")
    for number in range(6):
        headers = {"Authorization": f"Bearer {key}"}
        url = stack.urls[number % 2] + "/v1/chat/completions"
        response = httpx.post(url, json=exact_body("half"), headers=headers, timeout=60)
        assert response.status_code == 200, response.text
    calls = [call.split()[0] for call in stack.seen()["calls"]]
    assert (calls.count("fails"), calls.count("ok")) == (3, 6)
    eventually(lambda: stack.accounts()["key"].spent == "0.3")
    stack.settled()


@pytest.mark.long
def test_a_stream_is_charged_to_its_deployment(stack: Stack) -> None:
    assert stack.chat(stack.key("stream"), stream=True).status_code == 200
    eventually(lambda: [one.spent for one in deployments(stack)] == ["0.05"])
    assert [one.in_flight for one in deployments(stack)] == [0]


def one(name: str, upstream: str, **info: str) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": {"model": upstream, "api_key": "none"}, "model_info": info}


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy's, without a proxy."""
    router = Router(
        model_list=[
            one("plain", "openai/plain", id="id-plain"),
            one("plain", "openai/plain", id="id-plain-2"),
            one("openai/*", "openai/*", id="id-wild"),
            one("team-model", "openai/team", id="id-team", team_id="t1", team_public_model_name="public"),
        ],
        model_group_alias={"alias": "plain"},
    )
    monkeypatch.setattr(proxy_server, "llm_router", router)


@pytest.mark.parametrize(
    ("model", "team", "expected"),
    [
        ("plain", None, ["id-plain", "id-plain-2"]),
        ("alias", None, ["id-plain", "id-plain-2"]),
        ("openai/any", None, ["id-wild"]),
        ("id-plain-2", None, ["id-plain-2"]),
        ("public", "t1", ["id-team"]),
        ("public", "t2", []),
        ("nobody", None, []),
    ],
)
@pytest.mark.usefixtures("router")
def test_every_name_of_a_model_is_found(model: str, team: str | None, expected: list[str]) -> None:
    told = {"metadata": {"user_api_key_team_id": team}}
    assert [found["model_info"]["id"] for found in estimates.deployments(model, estimates.team_of(told))] == expected


@pytest.mark.parametrize("away", ["local", "open", "closed"])
@pytest.mark.usefixtures("router")
def test_while_the_server_is_away(away: Any) -> None:
    """Any of the deployments, or none: as the setting says of requests."""
    settings = PluginSettings(url="unused", routing="ROOM", away=away)

    async def main() -> Any:
        async with AsyncGateway(Redis(port=free_port()), settings.for_client()) as gateway:
            synchroniser = Synchroniser(gateway, present_spend=False)
            routing = Routing(gateway, Background(), synchroniser, Prices(), settings)
            return await routing.async_get_available_deployment("plain")

    if away == "closed":
        with pytest.raises(RouterRateLimitError):
            asyncio.run(main())
    else:
        assert asyncio.run(main())["model_info"]["id"] in ("id-plain", "id-plain-2")
