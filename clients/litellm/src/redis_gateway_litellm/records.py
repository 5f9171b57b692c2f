"""A record of each request for the log queue: what it has used, and whom it was charged to."""

from __future__ import annotations

import time
from typing import Any

from redis_gateway import AsyncGateway

from .calls import Call, Use
from .policies import plain

__all__ = ["Records"]


class Records:
    """Buffers records and pushes them together. No prompt and no answer is in them."""

    def __init__(self, gateway: AsyncGateway, queue: str) -> None:
        self._logs = gateway.logs(queue)

    def call_ended(self, call: Call, use: Use | None) -> None:
        self._logs.push(record_of(call, use, time.time_ns() // 1_000_000))


def record_of(call: Call, use: Use | None, now_ms: int) -> dict[str, Any]:
    """`known` is false if LiteLLM has not reported the use: then it is the estimate that was charged."""
    estimate = call.estimate
    known = use is not None
    if use is None:
        use = Use(estimate.input_tokens, estimate.output_tokens, estimate.input_usd + estimate.output_usd)
    return {
        "at_ms": now_ms,
        "id": call.admission.lease_id,
        "litellm_call_id": call.id,
        "call_type": call.call_type,
        "model": call.model,
        "accounts": [account.key for account in call.accounts],
        "outcome": "success" if call.reported is not None else "failure" if call.asked else "refused",
        "degraded": call.admission.outcome == "degraded",
        "known": known,
        "input_tokens": use.input_tokens,
        "output_tokens": use.output_tokens,
        "usd": plain(use.usd),
        "deployments": [attempt.target for attempt in call.attempts],
    }
