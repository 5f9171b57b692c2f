"""Refusals as LiteLLM's own errors, with headers, and a body that names every policy in the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from litellm.proxy._types import ProxyException
from litellm.proxy.common_utils.proxy_rate_limit_error import ProxyRateLimitError

from redis_gateway import AsyncAdmission

from .accounts import Account
from .away import Refused
from .policies import Policy

__all__ = ["headers_of", "local_refusal", "refusal"]

BY_KIND = {"INFLIGHT": "max_parallel_requests", "BUDGET": "budget", "BLOCK": "requests"}


def headers_of(admission: AsyncAdmission, token_meter: str) -> dict[str, str]:
    """`Retry-After`, `RateLimit`, `RateLimit-Policy`, and those of OpenAI and Anthropic."""
    return admission.headers(meters={token_meter: "tokens"} if token_meter == "tokens" else None)


class LimitReached(ProxyException, ProxyRateLimitError):
    """LiteLLM's own error of its limiters, by which it tries fallbacks; and its error that goes to the client with its
    headers on all paths, which the first alone does not on /v1/messages."""

    def __init__(
        self, message: str, fields: dict[str, Any], headers: Mapping[str, str], kind: str | None, model: str | None
    ) -> None:
        detail = {"error": message, **fields}
        ProxyRateLimitError.__init__(
            self,
            detail,
            headers=headers,
            rate_limit_type=kind,
            model=model,
            descriptor_key=descriptor(fields["policies"]),
        )
        self.message = message
        self.type = str(fields["type"])
        self.param = None
        self.code = self.openai_code = "429"
        self.headers = dict(headers)
        self.provider_specific_fields = detail


def refusal(
    admission: AsyncAdmission, accounts: Sequence[Account], headers: Mapping[str, str], model: str | None
) -> Exception:
    """429 if policies are in the way, 503 if they cannot be asked."""
    if admission.status_code != 429:
        wait = {"Retry-After": str(max(1, -(-admission.retry_after_ms // 1000)))}
        text = f"The limits of this request cannot be checked now ({admission.reason}). Try again later."
        away: Exception = ProxyException(
            message=text, type="service_unavailable", param=None, code=503, headers={**headers, **wait}
        )
        return away
    scopes = {account.key: account.scope for account in accounts}
    policies = [told(row, scopes.get(row.account, "")) for row in admission.refusals]
    return limit_reached(policies, admission.retry_after_ms, headers, model)


def local_refusal(refused: Sequence[Refused], model: str | None) -> Exception:
    """Of this process alone, while the server is away. What is left over all replicas is not known."""
    policies = [told_locally(*one) for one in refused]
    return limit_reached(policies, max(wait_ms for _, _, wait_ms in refused), {}, model)


def limit_reached(
    policies: Sequence[Mapping[str, object]], again: int, headers: Mapping[str, str], model: str | None
) -> Exception:
    when = f"Try again in {-(-again // 1000)} s." if again >= 0 else "Waiting does not help."
    text = "Limit reached: " + "; ".join(sentence(policy) for policy in policies) + f". {when}"
    kinds = {str(policy["type"]) for policy in policies}
    wait = {"Retry-After": str(-(-again // 1000))} if again >= 0 else {}
    fields = {"type": "budget_exceeded" if kinds == {"budget"} else "rate_limit_exceeded", "policies": policies}
    return LimitReached(text, fields, {**headers, **wait}, litellm_type(kinds), model)


def told(row: Any, scope: str) -> dict[str, object]:
    """What a client may know of a policy: not the name of the account, which is the hash of a key."""
    meter = row.meter or ("requests" if row.kind == "WINDOW" else None)
    made: dict[str, object] = {
        "scope": scope,
        "policy": row.policy,
        "kind": (row.kind or "").lower(),
        "type": "budget" if meter == "usd" else BY_KIND.get(row.kind or "", meter or "requests"),
        "limit": number(row.limit),
        "remaining": number(row.remaining),
        "retry_after_ms": row.retry_after_ms,
        "reset_after_ms": row.reset_after_ms,
    }
    if meter:
        made["meter"] = meter
    if row.period_ms is not None and row.period_ms > 0:
        made["period_ms"] = row.period_ms
    return made


def told_locally(account: Account, policy: Policy, wait_ms: int) -> dict[str, object]:
    made: dict[str, object] = {"scope": account.scope, "policy": policy["name"], "kind": policy["kind"]}
    made["type"] = BY_KIND.get(policy["kind"].upper(), policy.get("meter", "requests"))
    made["limit"] = policy["max"] if policy["kind"] == "inflight" else policy["limit"]
    made["retry_after_ms"] = wait_ms
    if "per_ms" in policy:
        made["period_ms"] = policy["per_ms"]
    return {**made, "local": True}


def number(value: object) -> object:
    """Money stays text."""
    return value if isinstance(value, int) else str(value)


def sentence(policy: Mapping[str, object]) -> str:
    period = policy.get("period_ms")
    span = f" in {int(str(period)) // 1000} s" if period is not None and policy["type"] != "budget" else ""
    of = f" of {policy['limit']} {policy['type']}{span}" if "limit" in policy else ""
    return f"{policy['scope']}: {policy['policy']}{of}"


def litellm_type(kinds: set[str]) -> str | None:
    """The one of LiteLLM's types that fits all of them."""
    if len(kinds) != 1:
        return None
    known = {"max_parallel_requests": "concurrent_requests", "requests": "requests", "budget": "budget"}
    kind = next(iter(kinds))
    return known.get(kind, "tokens" if "token" in kind else None)


def descriptor(policies: Sequence[Mapping[str, object]]) -> str | None:
    """LiteLLM's word for a limit on one model of a key, team or organisation, by which it decides on fallbacks."""
    scopes = {str(policy["scope"]).partition(" for model ")[::2] for policy in policies}
    owners = {owner for owner, model in scopes if model}
    return f"model_per_{next(iter(owners))}" if len(scopes) == len(owners) == 1 else None
