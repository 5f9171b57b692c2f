"""What a request will probably use: held until its answer has come, and then set right."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from .policies import money, plain

__all__ = ["Estimate", "Prices", "estimate"]

PRICES_FOR_S = 60.0
# In English a token is about four bytes: three is on the safe side, and about right where letters have three bytes.
BYTES_PER_TOKEN = 3
# A sum of two is still a number that the server takes.
MOST_TOKENS = 2**52 - 1
# An image or a recording is sent as text, but is not read as text.
MOST_OF_A_FILE = 3_000
INPUT = ("messages", "input", "prompt", "system", "instructions", "contents", "tools", "query", "documents")
BOUNDS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_tokens_to_sample")
# Calls whose answers have no tokens.
WITHOUT_OUTPUT = ("embedding", "rerank", "moderation", "transcription", "speech", "image", "batch", "search", "ocr")


@dataclass(frozen=True)
class Estimate:
    input_tokens: int
    output_tokens: int
    input_usd: Decimal
    output_usd: Decimal

    def amounts(self) -> dict[str, int | str]:
        """By meter."""
        return amounts(self.input_tokens, self.output_tokens, self.input_usd + self.output_usd)


def amounts(input_tokens: int, output_tokens: int, usd: Decimal) -> dict[str, int | str]:
    total = input_tokens + output_tokens
    return {"tokens": total, "input_tokens": input_tokens, "output_tokens": output_tokens, "usd": plain(usd)}


def estimate(data: Mapping[str, Any], call_type: str, output_tokens: int, prices: Prices) -> Estimate:
    """`output_tokens` is that of an answer which the request does not bound."""
    inward = sum(-(-size(data.get(name)) // BYTES_PER_TOKEN) for name in INPUT)
    outward = 0
    if not any(word in call_type for word in WITHOUT_OUTPUT):
        # The largest one: which of them a provider reads is not known. Some take 0 and less for "no bound".
        outward = max((whole(data.get(name)) for name in BOUNDS), default=0) or output_tokens
        outward = min(outward * max(1, whole(data.get("n"))), MOST_TOKENS)
    inward = min(inward, MOST_TOKENS)
    model = data.get("model")
    by_input, by_output = prices.of(model, team_of(data)) if isinstance(model, str) else (Decimal(0), Decimal(0))
    return Estimate(inward, outward, money(by_input * inward), money(by_output * outward))


def whole(value: object) -> int:
    return max(0, value) if isinstance(value, int) and not isinstance(value, bool) else 0


def size(value: object) -> int:
    """The bytes of all text in it, however deep."""
    total = 0
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            length = len(one) if one.isascii() else len(one.encode("utf-8", "surrogatepass"))
            total += min(length, MOST_OF_A_FILE) if one.startswith("data:") else length
        elif isinstance(one, Mapping):
            left += one.values()
        elif isinstance(one, (list, tuple)):
            left += one
        elif isinstance(one, (int, float)):
            # Input may come as tokens.
            total += BYTES_PER_TOKEN
    return total


class Prices:
    """The highest price of a token of input and of output among the deployments of a model."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str | None], tuple[float, tuple[Decimal, Decimal]]] = {}

    def of(self, model: str, team: str | None = None) -> tuple[Decimal, Decimal]:
        now = time.monotonic()
        known = self._known.get((model, team))
        if known is None or known[0] < now:
            if len(self._known) > 10_000:
                self._known.clear()
            known = self._known[model, team] = (now + PRICES_FOR_S, self._look_up(model, team))
        return known[1]

    def _look_up(self, model: str, team: str | None) -> tuple[Decimal, Decimal]:
        found = [price_of(one) for one in deployments(model, team)] or [price_of({"litellm_params": {"model": model}})]
        return max(one[0] for one in found), max(one[1] for one in found)


def team_of(data: Mapping[str, Any]) -> str | None:
    """As LiteLLM has written it into a request."""
    for name in ("metadata", "litellm_metadata"):
        bucket = data.get(name)
        team = bucket.get("user_api_key_team_id") if isinstance(bucket, Mapping) else None
        if isinstance(team, str):
            return team
    return None


def deployments(model: str, team: str | None = None) -> list[Mapping[str, Any]]:
    """Those of a model, which may be named by an alias, by a pattern, by the name that its team knows, or by the id of
    a deployment."""
    from litellm.proxy import proxy_server

    router: Any = proxy_server.llm_router
    if router is None:
        return []
    if not hasattr(router, "registry"):
        # LiteLLM 1.108 does not list a deployment by its id.
        listed = router.get_model_list(model_name=model, team_id=team)
        return listed or [one for one in router.model_list if one["model_info"]["id"] == model]
    registry = router.registry()
    found = list(registry.deployments(model, team_id=team) or [])
    one = registry.deployment_dict(model) if not found and registry.has_deployment(model) else None
    return found or ([one] if one else [])


def price_of(deployment: Mapping[str, Any]) -> tuple[Decimal, Decimal]:
    """What the deployment says, or else LiteLLM's table. 0 where nobody knows: LiteLLM says it with the answer."""
    params = deployment.get("litellm_params") or {}
    info = deployment.get("model_info") or {}
    table = listed(info.get("base_model") or params.get("model"))
    prices: list[Decimal] = []
    for name in ("input_cost_per_token", "output_cost_per_token"):
        told = next((source[name] for source in (params, info, table) if source.get(name) is not None), 0)
        # Smaller than the least amount of a charge: no rounding before the multiplication.
        try:
            price = Decimal(str(told))
        except InvalidOperation:
            price = Decimal(0)
        prices.append(max(price, Decimal(0)) if price.is_finite() else Decimal(0))
    return prices[0], prices[1]


def listed(model: object) -> Mapping[str, Any]:
    """What LiteLLM's table has. Its `get_model_info` would ask some providers, and hold up the proxy meanwhile."""
    import litellm

    if not isinstance(model, str):
        return {}
    names = (model, model.partition("/")[2], model.rpartition("/")[2])
    return next((found for name in names if isinstance(found := litellm.model_cost.get(name), Mapping)), {})
