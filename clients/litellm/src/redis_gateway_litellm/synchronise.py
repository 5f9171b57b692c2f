"""Keeps the policies of accounts as LiteLLM's settings are."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import TypeVar

from redis_gateway import AsyncAdmission, AsyncGateway, Unavailable

from .accounts import Account

__all__ = ["Synchroniser"]

log = logging.getLogger("redis_gateway_litellm")
Decision = TypeVar("Decision", bound=AsyncAdmission)
MOST_KNOWN = 100_000
# Policies are put again after this time: another replica may have put older settings, or somebody has changed them.
AGAIN_AFTER_S = 600.0


class Synchroniser:
    """Puts the policies of an account when this process meets it for the first time, and when its settings change."""

    def __init__(self, gateway: AsyncGateway, *, present_spend: bool, again_after: float = AGAIN_AFTER_S) -> None:
        self._gateway = gateway
        self._present_spend = present_spend
        self._again_after = again_after
        # The document, whether it was complete, and until when it need not be put again.
        self._known: dict[str, tuple[str, bool, float]] = {}
        # Accounts that were made here before LiteLLM has told what their owners have spent.
        self._without_spend: set[str] = set()
        self._putting: dict[tuple[str, str, bool], asyncio.Task[None]] = {}

    async def decided(
        self, accounts: Collection[Account], ask: Callable[[str | None], Awaitable[Decision]], away: str | None
    ) -> Decision:
        """What `ask` has decided on these accounts, once their policies are as they should be. `away`: why the server
        was away for this request before. Then it is not asked, and neither if it is away now: `ask` is told why."""
        decision = await ask(away if away is not None else await self.put(accounts))
        if decision.reason == "no_account":
            # The server has lost them, or somebody has removed them.
            self.forget(accounts)
            decision = await ask(await self.put(accounts))
        return decision

    async def put(self, accounts: Iterable[Account]) -> str | None:
        """Returns when all of them are as they should be, or why the server is away."""
        for account in accounts:
            written, complete, until = self._known.get(account.key, ("", False, 0.0))
            if written == account.written and complete >= account.complete and time.monotonic() < until:
                continue
            name = (account.key, account.written, account.complete)
            task = self._putting.get(name)
            if task is None:
                # One for all requests that wait for it, and to the end, also if the first of them is cancelled.
                task = self._putting[name] = asyncio.create_task(self._put(account))
                task.add_done_callback(lambda _, name=name: self._putting.pop(name, None))  # type: ignore[misc]
            try:
                await asyncio.shield(task)
            except Unavailable as error:
                return error.reason
        return None

    async def _put(self, account: Account) -> None:
        commands = self._gateway.commands
        made = await commands.policy_put(account.key, account.written, nx=True)
        # An incomplete document takes nothing away from what another replica knows.
        if not made and account.complete:
            await commands.policy_put(account.key, account.written)
        if made or account.key in self._without_spend:
            await self._begin_spend(account)
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        until = time.monotonic() + self._again_after * (0.75 + 0.5 * random.random())
        self._known[account.key] = (account.written, account.complete, until)

    async def _begin_spend(self, account: Account) -> None:
        self._without_spend.discard(account.key)
        if not self._present_spend:
            return
        if account.spent:
            # The id makes it once, also if two processes make the account. It is kept if the server goes away now.
            await self._gateway.budgets.charge(account.key, account.spent, id="litellm:present-spend")
        elif not account.complete and len(self._without_spend) < MOST_KNOWN:
            self._without_spend.add(account.key)

    def forget(self, accounts: Iterable[Account]) -> None:
        for account in accounts:
            self._known.pop(account.key, None)
