"""A slow and a dead server: the proxy answers as its settings say, and does not wait."""

from __future__ import annotations

from decimal import Decimal

import pytest

from proxies import COST, Stack, eventually
from servers import missing
from traffic import Told, exact_body, for_seconds, in_turns

MESSAGE = {"model": "claude-ok", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
# What the slowest request in a hundred may take longer than without the outage: 250 ms, and 2 s for a machine that does
# much else at the same time. A proxy that waits for the server takes longer than both.
LONGER_S = 0.25 + 2.0


def test_by_default_each_replica_keeps_the_limits_by_itself(lone_stack: Stack) -> None:
    key = lone_stack.key("local", rpm_limit=3)
    assert lone_stack.chat(key).status_code == 200
    with lone_stack.server.frozen():
        assert [lone_stack.chat(key).status_code for _ in range(4)] == [200, 200, 200, 429]
        response = lone_stack.post("/v1/messages", key, MESSAGE)
        assert response.status_code == 429
        assert int(response.headers["Retry-After"]) >= 1
        assert "rpm of 3 requests in 60 s" in response.text
    lone_stack.settled()


def test_a_pause_of_5_s_holds_up_nobody_and_is_charged_later(lone_stack: Stack) -> None:
    key = lone_stack.key("paused", max_budget=10_000, rpm_limit=100_000)
    calm = in_turns(lone_stack, key, 60, exact_body())
    with lone_stack.server.frozen():
        paused = for_seconds(lone_stack, key, 5.0, exact_body())
    assert set(calm.codes) == set(paused.codes) == {200}
    assert paused.p99() < calm.p99() + LONGER_S
    served = calm.codes[200] + paused.codes[200]
    eventually(lambda: Decimal(lone_stack.accounts()["key"].spent) == served * Decimal(COST))
    assert lone_stack.settled().held == "0"


def test_a_server_that_is_killed_holds_up_nobody(lone_stack: Stack) -> None:
    key = lone_stack.key("killed", max_budget=10_000, rpm_limit=100_000)
    calm = in_turns(lone_stack, key, 60, exact_body())
    lone_stack.server.stop()
    try:
        killed = in_turns(lone_stack, key, 60, exact_body())
    finally:
        lone_stack.server.start()
    assert killed.codes == {200: 60}
    assert killed.p99() < calm.p99() + LONGER_S
    # The server has no data any more: the account is made again, and what was kept is charged to it.
    eventually(lambda: lone_stack.chat(key).status_code == 200 and "key" in lone_stack.accounts())
    eventually(lambda: Decimal(lone_stack.accounts()["key"].spent) > 60 * Decimal(COST))
    lone_stack.settled()


@pytest.mark.long
@pytest.mark.skipif(bool(missing()), reason=str(missing()))
@pytest.mark.parametrize(("away", "status"), [("closed", 503), ("open", 200)])
def test_as_the_setting_says(away: str, status: int) -> None:
    stack = Stack(redis_gateway={"away": away})
    try:
        key = stack.key("away", rpm_limit=2)
        assert stack.chat(key).status_code == 200
        with stack.server.frozen():
            answers = [stack.chat(key) for _ in range(3)] + [stack.post("/v1/messages", key, MESSAGE)]
            assert [answer.status_code for answer in answers] == [status] * 4
            if status == 503:
                assert answers[0].json()["error"]["type"] == "service_unavailable"
                assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers)
        eventually(lambda: stack.chat(stack.key("later")).status_code == 200)
        stack.settled()
    finally:
        stack.close()


def test_p99() -> None:
    """Of what the tests above assert."""
    assert Told(took=[float(number) for number in range(100)]).p99() == 99.0
