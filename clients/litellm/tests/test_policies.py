"""LiteLLM's settings as policies: each of them, and what happens when they change."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest

from proxies import Stack, eventually
from redis_gateway_litellm.policies import budget, limits, period_of

REQUESTS = {"name": "rpm", "kind": "window", "limit": 5, "per_ms": 60_000}
TOKENS = {"name": "tpm", "kind": "window", "limit": 9, "per_ms": 60_000, "meter": "tokens", "give_back": True}


def test_limits() -> None:
    assert limits(5, 9, 2) == [REQUESTS, TOKENS, {"name": "parallel", "kind": "inflight", "max": 2}]
    assert limits(None, None) == []
    assert limits(0, None)[0]["limit"] == 0
    # What LiteLLM writes for "without a limit".
    assert limits(2**63 - 1, None) == []
    assert limits(None, 9, token_meter="output_tokens")[0]["meter"] == "output_tokens"


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (None, {"period": "total"}),
        ("1d", {"period": "day"}),
        ("daily", {"period": "day"}),
        ("24h", {"period": "day"}),
        ("7d", {"period": "week"}),
        ("30d", {"period": "month"}),
        ("1mo", {"period": "month"}),
        ("1h", {"per_ms": 3_600_000, "anchor_ms": 0}),
        ("30s", {"per_ms": 30_000, "anchor_ms": 0}),
        ("2mo", None),
        ("soon", None),
        ("0d", None),
    ],
)
def test_periods(duration: str | None, expected: dict[str, Any] | None) -> None:
    assert period_of(duration, None) == expected


def test_a_period_with_a_known_end_is_anchored_to_it() -> None:
    end = datetime(2026, 1, 2, 8, 0, tzinfo=timezone.utc)
    day = 86_400_000
    assert period_of("1d", end) == {"per_ms": day, "anchor_ms": 8 * 3_600_000}
    assert period_of("1d", end.replace(hour=0)) == {"period": "day"}
    assert period_of("3d", end) == {"per_ms": 3 * day, "anchor_ms": int(end.timestamp() * 1000) % (3 * day)}


def test_budgets() -> None:
    month = {"name": "budget", "kind": "budget", "amount": "10.5", "period": "month"}
    assert budget(10.5, None, "30d", None, "a key") == [month]
    assert budget(10.5, 8.4, "30d", None, "a key") == [{**month, "soft_percent": 80}]
    assert budget(0.1, None, None, None, "a key")[0]["amount"] == "0.1"
    window = budget(10.5, None, "1h", None, "a key")[0]
    assert (window["kind"], window["limit"], window["decimal"], window["fixed"]) == ("window", "10.5", True, True)
    alone = budget(None, 5, "7d", None, "a key")[0]
    assert (alone["amount"], alone["period"], alone["shadow"], alone["soft_percent"]) == ("5", "week", True, 100)
    assert budget(None, None, "1d", None, "a key") == []
    assert budget(-1.0, None, "1d", None, "a key")[0]["amount"] == "0"


def test_a_budget_whose_period_is_not_known_is_left_to_litellm(caplog: pytest.LogCaptureFixture) -> None:
    assert budget(10, None, "unknown", None, "team of the test") == []
    assert "team of the test" in caplog.text


SETTINGS: list[tuple[dict[str, Any], str, dict[str, str]]] = [
    ({"rpm_limit": 5}, "key", {"rpm": "WINDOW 5 PER 60000 METER requests"}),
    ({"tpm_limit": 9}, "key", {"tpm": "WINDOW 9000 PER 60000 METER tokens GIVEBACK"}),
    ({"max_parallel_requests": 5}, "key", {"parallel": "INFLIGHT 5"}),
    ({"max_budget": 9.25}, "key", {"budget": "BUDGET 9.25 TOTAL METER usd"}),
    ({"max_budget": 9.25, "budget_duration": "7d"}, "key", {"budget": "BUDGET 9.25 WEEK METER usd"}),
    (
        {"max_budget": 10, "soft_budget": 5, "budget_duration": "30d"},
        "key",
        {"budget": "BUDGET 10 MONTH SOFT 50 METER usd"},
    ),
    ({"soft_budget": 5}, "key", {"soft_budget": "BUDGET 5 TOTAL SOFT 100 METER usd SHADOW"}),
    (
        {"max_budget": 10, "budget_duration": "1h"},
        "key",
        {"budget": "WINDOW 10 PER 3600000 DECIMAL FIXED ANCHOR 0 METER usd"},
    ),
    ({"metadata": {"model_rpm_limit": {"ok": 5}}}, "key-model", {"rpm": "WINDOW 5 PER 60000 METER requests"}),
    (
        {"metadata": {"model_tpm_limit": {"o*": 9000}}},
        "key-model",
        {"tpm": "WINDOW 9000 PER 60000 METER tokens GIVEBACK"},
    ),
    (
        {"model_max_budget": {"ok": {"budget_limit": 9, "time_period": "1d", "rpm_limit": 5}}},
        "key-model",
        {"rpm": "WINDOW 5 PER 60000 METER requests", "budget": "BUDGET 9 DAY METER usd"},
    ),
    ({"metadata": {"tag_rpm_limit": {"batch": 5}}}, "key-tag", {"rpm": "WINDOW 5 PER 60000 METER requests"}),
    ({"user_id": "u", "user_rpm_limit": 5}, "user", {"rpm": "WINDOW 5 PER 60000 METER requests"}),
    (
        {"user_id": "u", "user_max_budget": 9, "metadata": {"user_budget_duration": "1d"}},
        "user",
        {"budget": "BUDGET 9 DAY METER usd"},
    ),
    ({"user_id": "u", "user_max_budget": 9}, "user", {}),
    ({"team_id": "t", "team_tpm_limit": 9_000}, "team", {"tpm": "WINDOW 9000 PER 60000 METER tokens GIVEBACK"}),
    (
        {"team_id": "t", "team_max_budget": 9, "metadata": {"team_budget_duration": "total"}},
        "team",
        {"budget": "BUDGET 9 TOTAL METER usd"},
    ),
    (
        {"team_id": "t", "team_metadata": {"model_rpm_limit": {"ok": 5}}},
        "team-model",
        {"rpm": "WINDOW 5 PER 60000 METER requests"},
    ),
    (
        {"team_id": "t", "user_id": "u", "team_member_rpm_limit": 5},
        "member",
        {"rpm": "WINDOW 5 PER 60000 METER requests"},
    ),
    ({"org_id": "o", "organization_rpm_limit": 5}, "org", {"rpm": "WINDOW 5 PER 60000 METER requests"}),
    ({"end_user_id": "c", "end_user_rpm_limit": 5}, "end-user", {"rpm": "WINDOW 5 PER 60000 METER requests"}),
]


@pytest.mark.parametrize(("settings", "kind", "policies"), SETTINGS, ids=[json.dumps(one[0]) for one in SETTINGS])
def test_each_setting_becomes_policies(
    stack: Stack, settings: dict[str, Any], kind: str, policies: dict[str, str]
) -> None:
    settings = {**settings, "tpm_limit": 9_000} if "tpm_limit" in settings else settings
    response = stack.chat(stack.key("setting", **settings), max_tokens=20, metadata={"tags": ["batch"]})
    assert response.status_code == 200, response.text
    assert stack.settled(kind).policies == policies


def test_a_setting_that_changes_is_in_force_with_the_next_request(stack: Stack) -> None:
    key = stack.key("changes", rpm_limit=1)
    assert [stack.chat(key).status_code for _ in range(2)] == [200, 429]
    stack.key("changes", rpm_limit=3)
    assert [stack.chat(key).status_code for _ in range(3)] == [200, 200, 429]
    stack.key("changes")
    assert stack.chat(key).status_code == 200
    assert stack.settled().policies == {}


def test_accounts_that_the_server_has_lost_are_made_again(stack: Stack) -> None:
    key = stack.key("lost", rpm_limit=1)
    assert stack.chat(key).status_code == 200
    stack.settled()
    stack.server.run("FLUSHALL")
    assert [stack.chat(key).status_code for _ in range(2)] == [200, 429]


def test_present_spend_comes_along(stack: Stack) -> None:
    """What LiteLLM says was spent in this period is charged when the account is made, once."""
    key = stack.key("present", max_budget=1.0, spend=0.97, team_id="t3", team_spend=5.5)
    assert stack.chat(key, max_tokens=20).status_code == 429
    key = stack.key("present", max_budget=1.1, spend=0.97, team_id="t3", team_spend=5.5)
    assert stack.chat(key, max_tokens=20).status_code == 200
    eventually(lambda: stack.accounts()["key"].spent == "1.02")
    assert stack.settled("team").spent == "5.55"


def test_present_spend_is_taken_over_again_if_the_account_is_removed(stack: Stack) -> None:
    for spent in (1.0, 3.0):
        key = stack.key("again", max_budget=10.0, spend=spent)
        assert stack.chat(key, max_tokens=20).status_code == 200
        eventually(lambda expected=f"{spent + 0.05:.2f}": stack.settled().spent == expected)
        with stack.server.admin() as admin:
            assert admin.delete(*admin.keys("{litellm}:key:*")) == 1
