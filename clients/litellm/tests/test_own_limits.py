"""LiteLLM's own limiter beside this one, and what a request costs the server."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

import litellm
import pytest
from litellm.integrations.custom_logger import CustomLogger

from proxies import Stack
from redis_gateway_litellm.own_limits import attend_to_own_limits, warn_of_unread


class _PROXY_MaxParallelRequestsHandler_v3(CustomLogger):
    """Named as LiteLLM's is."""


@pytest.fixture
def callbacks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = [CustomLogger(), _PROXY_MaxParallelRequestsHandler_v3()]
    monkeypatch.setattr(litellm, "callbacks", found)
    return found


def test_it_is_taken_out(callbacks: list[Any]) -> None:
    attend_to_own_limits(replace=True)
    assert [type(one) for one in callbacks] == [CustomLogger]


def test_it_is_warned_about_if_it_is_kept(callbacks: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    attend_to_own_limits(replace=False)
    assert len(callbacks) == 2
    assert "_PROXY_MaxParallelRequestsHandler_v3" in caplog.text


class Auth:
    tpd_limit = 5
    project_metadata: ClassVar = {"model_rpm_limit": {"ok": 1}}


def test_limits_that_nobody_checks_are_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_unread(Auth())
    assert "nobody checks tpd_limit, model_rpm_limit of a project" in caplog.text
    caplog.clear()
    warn_of_unread(Auth())  # Once.
    warn_of_unread(object())
    assert caplog.text == ""


def commands(stack: Stack) -> Counter[str]:
    with stack.server.admin() as admin:
        stats = admin.info("commandstats")
    return Counter({name.removeprefix("cmdstat_").upper(): figures["calls"] for name, figures in stats.items()})


def test_a_request_is_two_commands(stack: Stack) -> None:
    """One before the provider is asked and one after, however many policies there are."""
    key = stack.key(
        "two", rpm_limit=1_000, tpm_limit=1_000_000, max_budget=100, user_id="u", user_rpm_limit=1_000, team_id="t"
    )
    assert stack.chat(key).status_code == 200
    stack.settled()
    before = commands(stack)
    assert [stack.chat(key).status_code for _ in range(5)] == [200] * 5
    stack.settled()
    after = commands(stack)
    sent = {name: after[name] - before[name] for name in after if name.startswith("GW.") and after[name] > before[name]}
    for other in ("GW.DESCRIBE", "GW.LOGPUSH"):  # The first is this test's own; records are pushed now and then.
        sent.pop(other, None)
    assert sent == {"GW.ADMIT": 5, "GW.SETTLE": 5}
    for name in ("EVALSHA", "EVAL", "INCRBYFLOAT", "MGET", "GET", "SET"):
        assert after[name] == before[name]
