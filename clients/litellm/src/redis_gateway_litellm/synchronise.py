"""Keeps the policies of accounts as LiteLLM's settings are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from redis_gateway import AsyncGateway, Unavailable

from .accounts import Account

__all__ = ["Synchroniser"]

log = logging.getLogger("redis_gateway_litellm")
MOST_KNOWN = 100_000


class Synchroniser:
    """Puts the policies of an account when this process meets it for the first time, and when its settings change."""

    def __init__(self, gateway: AsyncGateway, *, present_spend: bool) -> None:
        self._gateway = gateway
        self._present_spend = present_spend
        self._known: dict[str, str] = {}
        self._putting: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def put(self, accounts: Iterable[Account]) -> None:
        """Returns when all of them are as they should be, or the server is away: then the admission decides."""
        for account in accounts:
            if self._known.get(account.key) == account.written:
                continue
            name = (account.key, account.written)
            task = self._putting.get(name)
            if task is None:
                # One for all requests that wait for it, and to the end, also if the first of them is cancelled.
                task = self._putting[name] = asyncio.create_task(self._put(account))
                task.add_done_callback(lambda _, name=name: self._putting.pop(name, None))  # type: ignore[misc]
            try:
                await asyncio.shield(task)
            except Unavailable:
                return

    async def _put(self, account: Account) -> None:
        commands = self._gateway.commands
        made = await commands.policy_put(account.key, account.written, nx=True)
        if not made:
            await commands.policy_put(account.key, account.written)
        elif self._present_spend and account.spent:
            # The id makes it once, also if two processes make the account.
            await commands.add_cost(account.key, account.spent, id="litellm:present-spend")
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[account.key] = account.written

    def forget(self, accounts: Iterable[Account]) -> None:
        """The server does not have them any more."""
        for account in accounts:
            self._known.pop(account.key, None)
