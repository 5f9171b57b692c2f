"""While the server is away, with `away: local`: each process keeps its share of the accounts' own limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redis_gateway.local import LocalSlots, LocalWindows, share

from .accounts import Account
from .policies import MINUTE_MS, Policy

__all__ = ["LocalLimits", "Refused"]

# A request that is not told to have ended gives its place back after this time.
PLACE_S = 3_600.0

Refused = tuple[Account, Policy, int]
"""Whose policy refuses, and for how many milliseconds."""


class LocalLimits:
    """Requests, tokens and requests at a time. Nobody can tell here what was spent: an account that has a budget, and
    no limit of requests, gets one."""

    def __init__(self, instances: int, rpm: int) -> None:
        self._instances = instances
        self._of_budget: Policy = {"name": "local_rpm", "kind": "window", "limit": rpm, "per_ms": MINUTE_MS}
        self._windows = LocalWindows()
        self._slots = LocalSlots()

    def take(self, accounts: Sequence[Account], amounts: Mapping[str, int | str], lease_id: str) -> list[Refused]:
        """Takes a request from all of the limits, or from none: then those that refuse. Nothing else of this event
        loop comes in between."""
        policies = [(account, policy) for account in accounts for policy in self._policies(account)]
        refused: list[Refused] = []
        for account, policy in policies:
            if policy["kind"] == "window":
                allowed, wait_ms = self._window(account, policy, amounts, peek=True)
            else:
                most = share(int(policy["max"]), self._instances)
                allowed, _, wait_ms = self._slots.take(account.key, most, lease_id, PLACE_S)
                # Whoever has the place may go at any time.
                wait_ms = min(wait_ms, 1_000)
            if not allowed:
                # The server may be back before that.
                refused.append((account, policy, max(wait_ms, 1_000)))
        if refused:
            self.free(accounts, lease_id)
            return refused
        for account, policy in policies:
            if policy["kind"] == "window":
                self._window(account, policy, amounts, peek=False)
        return []

    def _policies(self, account: Account) -> list[Policy]:
        found = [policy for policy in account.policies if policy["kind"] == "inflight" or counts(policy)]
        budgets = any(not counts(policy) and policy["kind"] in ("window", "budget") for policy in account.policies)
        if budgets and not any(policy["name"] == "rpm" for policy in found):
            found.append(self._of_budget)
        return found

    def _window(
        self, account: Account, policy: Policy, amounts: Mapping[str, int | str], *, peek: bool
    ) -> tuple[bool, int]:
        cost = int(amounts.get(policy["meter"], 0)) if "meter" in policy else 1
        limit = share(int(policy["limit"]), self._instances)
        key = (account.key, policy["name"])
        allowed, _, wait_ms = self._windows.take(key, limit, policy["per_ms"] / 1000, cost, peek=peek)
        return allowed, wait_ms

    def free(self, accounts: Sequence[Account], lease_id: str) -> None:
        """The request has ended."""
        for account in accounts:
            self._slots.free(account.key, lease_id)


def counts(policy: Policy) -> bool:
    """Whether it is a window of requests or tokens, and not of money."""
    return policy["kind"] == "window" and not policy.get("decimal")
