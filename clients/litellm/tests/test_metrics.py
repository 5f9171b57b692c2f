"""LiteLLM's metrics of limits, which its own limiter feeds, go on without it."""

from __future__ import annotations

import re

from proxies import Stack, eventually

NAME = re.compile(r"^(litellm_\w+)\{([^}]*)\} (\S+)$", re.MULTILINE)


def metrics(stack: Stack, key: str) -> dict[str, float]:
    """Of limits, by name and kind."""
    text = stack.client.get("/metrics/", headers={"Authorization": f"Bearer {key}"}).text
    found: dict[str, float] = {}
    for name, labels, value in NAME.findall(text):
        kind = re.search(r'rate_limit_type="(\w+)"', labels)
        found[f"{name} {kind[1]}" if kind else name] = float(value)
    return found


def test_what_operators_know(stack: Stack) -> None:
    key = stack.key(
        "metrics",
        rpm_limit=5,
        tpm_limit=10_000,
        max_budget=10.0,
        team_id="t",
        team_rpm_limit=7,
        metadata={"model_rpm_limit": {"ok": 3}},
    )
    assert [stack.chat(key, max_tokens=20).status_code for _ in range(2)] == [200, 200]
    eventually(lambda: metrics(stack, key).get("litellm_api_key_rate_limit_used_metric requests") == 2)
    found = metrics(stack, key)
    assert found["litellm_api_key_rate_limit_allowed_metric requests"] == 5
    assert found["litellm_api_key_rate_limit_allowed_metric tokens"] == 10_000
    assert found["litellm_team_rate_limit_allowed_metric requests"] == 7
    assert found["litellm_team_rate_limit_used_metric requests"] == 2
    assert found["litellm_remaining_api_key_requests_for_model"] == 1
    stack.settled()
