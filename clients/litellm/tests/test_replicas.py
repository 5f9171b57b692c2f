"""Two replicas of the proxy, and limits that bind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxies import Stack
from servers import eventually, missing
from traffic import at_once, exact_body


@pytest.fixture(scope="module")
def replicas() -> Iterator[Stack]:
    if missing():
        pytest.skip(str(missing()))
    # The replicas are as busy as they can be: an answer of the server may take longer than usual.
    stack = Stack(replicas=2, redis_gateway={"timeout": 5.0})
    yield stack
    stack.close()


@pytest.mark.parametrize("stream", [False, True])
def test_requests_and_budget_are_exact(replicas: Stack, stream: bool) -> None:
    """200 at once: as many as the limit allows get an answer, and they cost what they cost."""
    replicas.server.run("FLUSHALL")
    key = replicas.key(
        "rpm", rpm_limit=60, team_id="t", team_max_budget=100, metadata={"team_budget_duration": "total"}
    )
    told = at_once(replicas, key, 200, exact_body(stream=stream))
    assert told.codes == {200: 60, 429: 140}
    eventually(lambda: replicas.accounts()["team"].spent == "3")
    account = replicas.settled()
    assert (account.spent, account.held, account.counts["rpm"]) == ("3", "0", 60)


def test_a_budget_is_exact_to_the_cent(replicas: Stack) -> None:
    """2 dollars are 40 answers of 0.05, whoever asks at the same time."""
    replicas.server.run("FLUSHALL")
    told = at_once(replicas, replicas.key("usd", max_budget=2.02), 200, exact_body())
    assert told.codes == {200: 40, 429: 160}
    eventually(lambda: replicas.accounts()["key"].spent == "2")
    assert replicas.settled().held == "0"


def test_tokens_are_exact(replicas: Stack) -> None:
    """1,000 tokens are 33 answers of 30."""
    replicas.server.run("FLUSHALL")
    told = at_once(replicas, replicas.key("tpm", tpm_limit=1_000), 200, exact_body())
    assert told.codes == {200: 33, 429: 167}
    assert replicas.settled().counts["tpm"] == 990


def test_requests_at_a_time_are_exact(replicas: Stack) -> None:
    replicas.server.run("FLUSHALL")
    replicas.reset()
    key = replicas.key("parallel", max_parallel_requests=10)

    def meanwhile() -> None:
        eventually(lambda: replicas.seen()["running"] == 10, 60)
        replicas.release()

    told = at_once(replicas, key, 10, exact_body("waits-first"), meanwhile=meanwhile)
    assert told.codes == {200: 10}
    replicas.reset()
    replicas.settled()

    def release() -> None:
        # All the others have been refused by then.
        eventually(lambda: replicas.accounts()["key"].in_flight == 10, 60)
        eventually(lambda: denied(replicas) == 190, 60)
        replicas.release()

    told = at_once(replicas, key, 200, exact_body("waits-first"), meanwhile=release)
    assert told.codes == {200: 10, 429: 190}
    assert replicas.seen()["most"] == 10
    replicas.settled()


def denied(stack: Stack) -> int:
    """Refusals of the policy `parallel`."""
    with stack.server.admin() as admin:
        name = next(iter(admin.keys("{litellm}:key:*")))
        rows = admin.execute_command("GW.POLICYLIST", name, "STATS")
    [(_, told)] = rows
    return int(dict(zip(told[::2], told[1::2], strict=True))["denied"])
