"""What LiteLLM's own limiter tells LiteLLM's metrics: now it is told by this one, so that they go on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .accounts import Account
from .calls import Call

__all__ = ["tell_metrics"]

# LiteLLM's names of what is limited, by the beginning of a scope.
OWNERS = {
    "key": "api_key",
    "team": "team",
    "user": "user",
    "team member": "team_member",
    "organization": "organization",
    "end user": "end_user",
}
UNITS = {"rpm": "requests", "tpm": "tokens"}


def tell_metrics(call: Call, told: dict[str, Any]) -> None:
    """Puts the limits of the request, and what was left of them when it was admitted, where LiteLLM's Prometheus
    metrics look for them. It goes to no client. `told` is what LiteLLM gives to its callbacks."""
    payload = told.get("standard_logging_object")
    found = limits_of(call.admission.rows, call.accounts)
    if not isinstance(payload, dict) or not found:
        return
    hidden = payload.get("hidden_params")
    hidden = payload["hidden_params"] = dict(hidden) if isinstance(hidden, dict) else {}
    headers = hidden.get("additional_headers")
    hidden["additional_headers"] = {**(headers if isinstance(headers, dict) else {}), **found}


def limits_of(rows: Iterable[Any], accounts: Iterable[Account]) -> dict[str, int]:
    scopes = {account.key: account.scope for account in accounts}
    found: dict[str, int] = {}
    for row in rows:
        owner, _, model = scopes.get(row.account, "").partition(" for model ")
        if row.policy not in UNITS or owner not in OWNERS:
            continue
        name = f"model_per_{owner.replace(' ', '_')}" if model else OWNERS[owner]
        for kind, value in (("limit", row.limit), ("remaining", row.remaining)):
            found[f"x-ratelimit-{name}-{kind}-{UNITS[row.policy]}"] = int(value)
    return found
