"""The response cache: one call of the provider for all who ask for the same, over two replicas."""

from __future__ import annotations

import contextlib

import httpx
import pytest

from proxies import Stack, eventually
from traffic import at_once, exact_body

USE = {"cache": {"use-cache": True}}


@pytest.mark.parametrize("stream", [False, True])
def test_a_hit_asks_nobody_and_costs_nothing(stack: Stack, stream: bool) -> None:
    key = stack.key("hits", rpm_limit=100, tpm_limit=100_000)
    first = stack.chat(key, stream=stream, **USE)
    eventually(lambda: stack.accounts()["key"].spent == "0.05")
    eventually(lambda: "litellm" in str(stack.server.run("KEYS litellm:cache:*")))
    second = stack.chat(key, stream=stream, **USE)
    assert first.status_code == second.status_code == 200
    assert "four" in first.text and "four" in second.text
    account = stack.settled()
    assert len(stack.seen()["calls"]) == 1
    assert (account.spent, account.counts["tpm"], account.counts["rpm"]) == ("0.05", 30, 2)


@pytest.mark.parametrize("stream", [False, True])
def test_one_asks_for_all(stack: Stack, stream: bool) -> None:
    """20 at once on two replicas: the provider sees one of them."""
    key = stack.key("flight", rpm_limit=1_000)
    told = at_once(stack, key, 20, exact_body(stream=stream, **USE))
    assert told.codes == {200: 20}
    assert len(stack.seen()["calls"]) == 1
    eventually(lambda: stack.accounts()["key"].spent == "0.05")
    stack.settled()


def test_if_the_provider_fails_the_next_one_asks_at_once(stack: Stack) -> None:
    key = stack.key("fails", rpm_limit=1_000)
    told = at_once(stack, key, 3, exact_body("refuses", **USE))
    assert told.codes == {400: 3}
    assert len(stack.seen()["calls"]) == 3
    stack.settled()


def test_a_retry_does_not_wait_for_its_own_request(stack: Stack) -> None:
    key = stack.key("retries", rpm_limit=1_000)
    assert stack.chat(key, "fails", **USE).status_code == 500
    assert stack.chat(key, "falls-back", **USE).status_code == 200
    stack.settled()


def test_whoever_leaves_holds_up_nobody(stack: Stack) -> None:
    key = stack.key("leaves", rpm_limit=1_000)
    headers = {"Authorization": f"Bearer {key}"}
    body = exact_body("waits", stream=True, **USE)
    with (
        contextlib.suppress(httpx.HTTPError),
        httpx.Client(base_url=stack.urls[0], timeout=30) as client,
        client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer,
    ):
        next(line for line in answer.iter_lines() if "one" in line)
    stack.release()
    stack.settled()
    assert stack.post("/v1/chat/completions", key, body).status_code == 200
