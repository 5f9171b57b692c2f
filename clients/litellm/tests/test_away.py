"""A slow and a dead server: the proxy answers as its settings say, and does not wait."""

from __future__ import annotations

import pytest

from proxies import Stack
from servers import eventually, missing
from traffic import exact_body, in_turns


def test_by_default_each_replica_keeps_the_limits_by_itself(stack: Stack) -> None:
    key = stack.key("local", rpm_limit=3)
    assert stack.chat(key).status_code == 200
    message = {"model": "claude-ok", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    with stack.server.frozen():
        assert [stack.chat(key).status_code for _ in range(4)] == [200, 200, 200, 429]
        response = stack.post("/v1/messages", key, message)
        assert response.status_code == 429
        assert int(response.headers["Retry-After"]) >= 1
        assert "rpm of 3 requests in 60 s" in response.text
    stack.settled()


@pytest.mark.skipif(bool(missing()), reason=str(missing()))
def test_closed_refuses() -> None:
    stack = Stack(redis_gateway={"away": "closed"})
    try:
        key = stack.key("closed", rpm_limit=100)
        assert stack.chat(key).status_code == 200
        with stack.server.frozen():
            response = stack.chat(key)
            assert response.status_code == 503
            assert response.json()["error"]["type"] == "service_unavailable"
            assert int(response.headers["Retry-After"]) >= 1
            message = {"model": "claude-ok", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
            assert stack.post("/v1/messages", key, message).status_code == 503
        eventually(lambda: stack.chat(key).status_code == 200)
        stack.settled()
    finally:
        stack.close()


def test_open_lets_pass_and_charges_later(open_stack: Stack) -> None:
    stack = open_stack
    stack.server.run("FLUSHALL")
    key = stack.key("open", max_budget=100, rpm_limit=10_000)
    calm = in_turns(stack, key, 60, exact_body())
    with stack.server.frozen():
        paused = in_turns(stack, key, 60, exact_body())
    assert calm.codes == paused.codes == {200: 60}
    # The bound of the issue is 250 ms more than without; the rest is for a loaded machine.
    assert paused.p99() < calm.p99() + 1.0
    eventually(lambda: stack.accounts()["key"].spent == "6", 60)
    assert stack.settled().held == "0"


def test_a_server_that_is_killed_holds_up_nobody(open_stack: Stack) -> None:
    stack = open_stack
    key = stack.key("killed", max_budget=100, rpm_limit=10_000)
    calm = in_turns(stack, key, 60, exact_body())
    stack.server.stop()
    try:
        killed = in_turns(stack, key, 60, exact_body())
        assert killed.codes == {200: 60}
        assert killed.p99() < calm.p99() + 1.0
    finally:
        stack.server.start()
    # The server has no data any more: the account is made again, and what was kept is charged to it.
    eventually(lambda: stack.chat(key).status_code == 200 and "key" in stack.accounts(), 60)
    eventually(lambda: float(stack.accounts()["key"].spent) > 3.0, 60)
    stack.settled()
