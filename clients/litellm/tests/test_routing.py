"""GW.ROUTE picks the deployment: limits are exact over two replicas, and a deployment that fails is left alone."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from proxies import Account, Stack
from servers import eventually, missing
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


def test_limits_of_deployments_are_exact(stack: Stack) -> None:
    """2 requests a minute on one and 1 on the other: of 20 at once 3 are served."""
    told = at_once(stack, stack.key("two"), 20, exact_body("two"))
    assert told.codes == {200: 3, 429: 17}
    eventually(lambda: all(one.in_flight == 0 for one in deployments(stack)))
    assert sorted((one.counts["rpm"], one.spent) for one in deployments(stack)) == [(1, "0.05"), (2, "0.1")]
    stack.settled()


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


def test_a_stream_is_charged_to_its_deployment(stack: Stack) -> None:
    assert stack.chat(stack.key("stream"), stream=True).status_code == 200
    eventually(lambda: [one.spent for one in deployments(stack)] == ["0.05"])
    assert [one.in_flight for one in deployments(stack)] == [0]
