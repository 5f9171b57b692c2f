"""Clients that leave before the answer, where the proxy is told to break off their calls."""

from __future__ import annotations

import pytest

from proxies import Stack, chat_body
from traffic import leave_early


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_is_broken_off_before_the_answer(lone_stack: Stack, stream: bool) -> None:
    """With cancel_on_disconnect nobody sees what the provider does: the input is charged, and nothing stays held."""
    key = lone_stack.key("cancelled", rpm_limit=100, tpm_limit=100_000, max_parallel_requests=10, max_budget=100.0)
    leave_early(lone_stack, key, chat_body("waits-first", stream=stream))
    account = lone_stack.settled()
    assert (account.in_flight, account.held, account.counts["rpm"]) == (0, "0", 1)
    assert 0 < float(account.spent) < 0.02, account.spent
