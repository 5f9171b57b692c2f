"""What a batch has cost: charged once, when LiteLLM knows it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from redis_gateway import AsyncGateway, Unavailable

from .accounts import key_of
from .owners import mapping
from .policies import money, plain

__all__ = ["BatchCost", "Batches", "cost_of_batch"]

CALL_TYPES = ("aretrieve_batch", "retrieve_batch")
# The server remembers the id of a charge for a day. A batch can be asked for as long as its provider keeps it.
REMEMBERED_MS = 60 * 24 * 3_600_000
# Whom LiteLLM names in what it reports, and what their accounts are called.
OWNERS = {
    "user_api_key_hash": "key",
    "user_api_key_user_id": "user",
    "user_api_key_team_id": "team",
    "user_api_key_org_id": "org",
    "user_api_key_end_user_id": "end-user",
}


@dataclass(frozen=True)
class BatchCost:
    id: str
    """The batch's."""
    usd: Decimal
    accounts: tuple[str, ...]


def cost_of_batch(told: Mapping[str, Any], response: object, prefix: str) -> BatchCost | None:
    """From an event of LiteLLM's: somebody has asked for a batch that has ended, or a job of LiteLLM's has. It tells
    the cost each time, also to whoever asks again."""
    payload = mapping(told.get("standard_logging_object"))
    if (payload.get("call_type") or told.get("call_type")) not in CALL_TYPES:
        return None
    batch = getattr(response, "id", None) or told.get("polled_batch_id")
    usd = money(payload.get("response_cost") or told.get("response_cost") or 0)
    if not isinstance(batch, str) or usd <= 0:
        return None
    owners = mapping(payload.get("metadata"))
    named = {kind: owners.get(name) for name, kind in OWNERS.items()}
    return BatchCost(batch, usd, tuple(key_of(prefix, kind, name) for kind, name in named.items() if name))


class Batches:
    def __init__(self, gateway: AsyncGateway, prefix: str) -> None:
        self._gateway = gateway
        self._prefix = prefix

    async def charge(self, cost: BatchCost) -> None:
        """To all accounts, once, whoever asks how often on which replica. Kept while the server is away."""
        commands = self._gateway.commands
        known_as = key_of(self._prefix, "batch", cost.id)
        with contextlib.suppress(Unavailable):
            if await commands.cache_fetch(known_as) is not None:
                return
        for account in cost.accounts:
            await self._gateway.budgets.charge(account, plain(cost.usd), id=f"litellm:batch:{cost.id}"[:512])
        with contextlib.suppress(Unavailable):
            await commands.cache_set(known_as, b"charged", px_ms=REMEMBERED_MS)
