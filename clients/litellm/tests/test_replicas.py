"""Two replicas of the proxy, and limits that bind."""

from __future__ import annotations

from decimal import Decimal

import pytest

from proxies import COST, Stack, eventually
from traffic import at_once, exact_body


@pytest.mark.parametrize("stream", [False, pytest.param(True, marks=pytest.mark.long)])
def test_requests_and_budget_are_exact(stack: Stack, stream: bool) -> None:
    """200 at once: as many as the limit allows get an answer, and they cost what they cost."""
    key = stack.key("rpm", rpm_limit=60, team_id="t", team_max_budget=100, metadata={"team_budget_duration": "total"})
    told = at_once(stack, key, 200, exact_body(stream=stream))
    assert told.codes.total() == told.codes[200] + told.codes[429] == 200
    assert told.kept(60), told
    eventually(lambda: Decimal(stack.accounts()["team"].spent) == told.codes[200] * Decimal(COST))
    account = stack.settled()
    assert (Decimal(account.spent), account.held) == (told.codes[200] * Decimal(COST), "0")


@pytest.mark.long
def test_a_budget_is_exact_to_the_cent(stack: Stack) -> None:
    """2 dollars are 40 answers of 0.05, whoever asks at the same time."""
    told = at_once(stack, stack.key("usd", max_budget=2.02), 200, exact_body())
    assert told.codes == {200: 40, 429: 160}
    eventually(lambda: stack.accounts()["key"].spent == "2")
    assert stack.settled().held == "0"


@pytest.mark.long
def test_tokens_are_exact(stack: Stack) -> None:
    """1,000 tokens are 33 answers of 30."""
    told = at_once(stack, stack.key("tpm", tpm_limit=1_000), 200, exact_body())
    assert told.codes.total() == told.codes[200] + told.codes[429] == 200
    assert told.kept(33), told
    assert int(stack.settled().counts["tpm"]) <= 1_000


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.long)])
def test_requests_at_a_time_are_exact(stack: Stack, count: int) -> None:
    key = stack.key("parallel", max_parallel_requests=10)

    def meanwhile() -> None:
        eventually(lambda: stack.seen()["running"] == 10)
        stack.release()

    told = at_once(stack, key, 10, exact_body("waits-first"), meanwhile=meanwhile)
    assert told.codes == {200: 10}
    stack.reset()
    stack.settled()

    def release() -> None:
        # All the others have been refused by then.
        eventually(lambda: denied(stack) == count - 10)
        eventually(lambda: stack.seen()["running"] == 10)
        stack.release()

    told = at_once(stack, key, count, exact_body("waits-first"), meanwhile=release)
    assert told.codes == {200: 10, 429: count - 10}
    assert stack.seen()["most"] == 10
    stack.settled()


def denied(stack: Stack) -> int:
    """Refusals of the policy `parallel`."""
    with stack.server.admin() as admin:
        name = next(iter(admin.keys("{litellm}:key:*")))
        rows = admin.execute_command("GW.POLICYLIST", name, "STATS")
    [(_, told)] = rows
    return int(dict(zip(told[::2], told[1::2], strict=True))["denied"])
