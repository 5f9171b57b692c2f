"""Each request is admitted once and settled once, at what it has used, on every path that LiteLLM has."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal
from typing import Any

import httpx
import litellm
import pytest

from proxies import LONG, Stack, chat_body, eventually
from traffic import leave_early

# 10 tokens of input at 0.001, and 20 of output at 0.002.
WHOLE = {"spent": "0.05", "tokens": 30}


def used(stack: Stack) -> dict[str, Any]:
    account = stack.settled()
    return {"spent": account.spent, "tokens": account.counts["tpm"]}


def requests(stack: Stack) -> int:
    return int(stack.settled().counts["rpm"])


def key_of(stack: Stack, name: str) -> str:
    return stack.key(name, rpm_limit=100, tpm_limit=100_000, max_parallel_requests=10, max_budget=100.0)


MESSAGE = {"model": "claude-ok", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
RESPONSE = {"model": "ok", "input": "Hi"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat_body()),
        ("/v1/messages", MESSAGE),
        ("/v1/messages", {**MESSAGE, "model": "ok"}),
        ("/v1/responses", RESPONSE),
    ],
    ids=["chat", "messages", "messages-of-another-provider", "responses"],
)
def test_an_answer_is_charged_once(stack: Stack, path: str, body: dict[str, Any], stream: bool) -> None:
    key = key_of(stack, "answer")
    response = stack.post(path, key, {**body, "stream": stream})
    assert response.status_code == 200, response.text
    assert response.headers["x-ratelimit-limit-requests"] == "100"
    assert response.headers["x-ratelimit-remaining-requests"] == "99"
    eventually(lambda: stack.accounts()["key"].spent != "0")
    assert used(stack) == WHOLE
    assert requests(stack) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_path_that_is_passed_through(stack: Stack, stream: bool) -> None:
    """LiteLLM does not tell of it before the provider is asked. It knows no price of this one, either."""
    response = stack.post("/through", key_of(stack, "through"), chat_body(stream=stream))
    assert response.status_code == 200, response.text
    assert "four" in response.text
    account = stack.settled()
    assert (account.counts["rpm"], account.in_flight, account.held) == (1, 0, "0")


def test_embeddings(stack: Stack) -> None:
    response = stack.post("/v1/embeddings", key_of(stack, "embed"), {"model": "embed", "input": ["Hi"]})
    assert response.status_code == 200, response.text
    assert used(stack) == {"spent": "0.01", "tokens": 10}


def test_a_batch_counts_as_a_request(stack: Stack) -> None:
    body = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    response = stack.post("/v1/batches", key_of(stack, "batch"), body)
    assert response.status_code == 200, response.text
    assert used(stack) == {"spent": "0", "tokens": 0}
    assert requests(stack) == 1


def test_a_batch_is_charged_once_what_it_has_cost(stack: Stack) -> None:
    """When somebody asks for it after its end: LiteLLM tells the cost then, each time."""
    price = litellm.model_cost["gpt-4o-mini"]
    cost = sum(
        Decimal(str(price[f"{way}_cost_per_token_batches"])) * tokens for way, tokens in (("input", 10), ("output", 20))
    )
    key = stack.key("batch-cost", max_budget=10.0, team_id="t-batch")
    body = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    assert stack.post("/v1/batches", key, body).status_code == 200
    for number in range(4):
        url = f"{stack.urls[number % 2]}/v1/batches/batch_1"
        answer = httpx.get(url, headers={"Authorization": f"Bearer {key}"}, timeout=LONG)
        assert answer.json()["status"] == "completed", answer.text
        eventually(lambda: stack.accounts()["team"].spent != "0")
    # The marker that keeps it from being charged again in some days.
    eventually(lambda: "{litellm}:batch:batch_1" in str(stack.server.run("KEYS {litellm}:batch:*")))
    account = stack.settled()
    assert (Decimal(account.spent), account.counts) == (cost, {})
    assert Decimal(stack.accounts()["team"].spent) == cost


def test_a_stream_without_usage_is_charged_what_litellm_counts(stack: Stack) -> None:
    """It counts the tokens of the text: 4 of the answer."""
    response = stack.chat(key_of(stack, "silent"), "silent", stream=True)
    assert response.status_code == 200
    eventually(lambda: stack.accounts()["key"].spent != "0")
    account = stack.settled()
    asked = int(account.counts["tpm"]) - 4
    assert 0 < asked < 20
    assert account.spent == f"{asked * 0.001 + 4 * 0.002:.3f}"


# Errors.


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("name", "status"), [("fails", 500), ("busy", 429), ("refuses", 400)])
def test_a_provider_that_fails_is_not_charged(stack: Stack, name: str, status: int, stream: bool) -> None:
    response = stack.chat(key_of(stack, "fails"), name, stream=stream)
    assert response.status_code == status, response.text
    assert used(stack) == {"spent": "0", "tokens": 0}
    assert requests(stack) == 1


def test_a_provider_that_fails_messages(stack: Stack) -> None:
    response = stack.post("/v1/messages", key_of(stack, "fails"), {**MESSAGE, "model": "claude-fails"})
    assert response.status_code == 500, response.text
    assert used(stack) == {"spent": "0", "tokens": 0}


def test_an_error_in_mid_stream_is_charged_what_was_produced(stack: Stack) -> None:
    """Two pieces came: what LiteLLM counts of them is charged, not nothing, and not the estimate."""
    with contextlib.suppress(httpx.HTTPError):
        stack.chat(key_of(stack, "breaks"), "breaks", stream=True)
    eventually(lambda: stack.accounts()["key"].spent != "0")
    account = stack.settled()
    assert 0 < float(account.spent) < 0.03
    assert 0 < int(account.counts["tpm"]) < 30


def test_an_error_in_mid_stream_of_messages(stack: Stack) -> None:
    with contextlib.suppress(httpx.HTTPError):
        stack.post("/v1/messages", key_of(stack, "breaks"), {**MESSAGE, "model": "claude-breaks", "stream": True})
    eventually(lambda: stack.accounts()["key"].spent != "0")
    account = stack.settled()
    assert 0 < float(account.spent) < 0.03


def test_retries_wait_for_nobody(stack: Stack) -> None:
    """One admission for all tries: with one request at a time, a retry does not wait for its own request's lease."""
    key = stack.key("retries", max_parallel_requests=1)
    assert stack.chat(key, "fails").status_code == 500
    assert len(stack.seen()["calls"]) == 2
    stack.settled()
    assert stack.chat(key, "ok").status_code == 200


def test_a_fallback_is_settled_once(stack: Stack) -> None:
    key = key_of(stack, "fallback")
    response = stack.chat(key, "falls-back")
    assert response.status_code == 200, response.text
    eventually(lambda: stack.accounts()["key"].spent != "0")
    assert used(stack) == WHOLE
    assert requests(stack) == 1


def test_a_fallback_within_a_stream_is_settled_once(stack: Stack) -> None:
    """The connection breaks before the first piece: LiteLLM goes on with another deployment's stream."""
    key = key_of(stack, "cut")
    response = stack.chat(key, "cut", stream=True)
    assert response.status_code == 200
    assert "four" in response.text
    eventually(lambda: stack.accounts()["key"].spent != "0")
    account = stack.settled()
    # LiteLLM may count the input of the broken stream as well.
    assert 0.05 <= float(account.spent) < 0.07, account.spent
    assert (account.counts["rpm"], account.held) == (1, "0")


# Another plugin.


def test_a_refusal_by_another_plugin_costs_nothing(stack: Stack) -> None:
    key = key_of(stack, "plugin")
    assert stack.chat(key, text="this is not allowed").status_code == 400
    assert used(stack) == {"spent": "0", "tokens": 0}
    assert requests(stack) == 0
    assert stack.seen()["calls"] == []


def test_a_refusal_for_one_model_is_given_back_before_the_next_is_asked(stack: Stack) -> None:
    """LiteLLM asks the hooks again for each model to fall back to."""
    key = stack.key("plugin-model", max_parallel_requests=1, rpm_limit=100, tpm_limit=100_000)
    response = stack.chat(key, text="this is too much")
    assert response.status_code == 200, response.text
    eventually(lambda: stack.accounts()["key"].spent != "0")
    assert used(stack) == WHOLE
    assert requests(stack) == 1


# Clients that leave.


def leave(stack: Stack, key: str, path: str, body: dict[str, Any], pieces: int) -> None:
    """Asks for a stream, reads so many of its lines, and hangs up."""
    headers = {"Authorization": f"Bearer {key}"}
    with (
        httpx.Client(base_url=stack.urls[0], timeout=30) as client,
        client.stream("POST", path, json=body, headers=headers) as answer,
    ):
        lines = answer.iter_lines()
        seen = 0
        while seen < pieces:
            seen += "one" in next(lines)


def test_a_client_that_leaves_in_mid_stream(stack: Stack) -> None:
    key = key_of(stack, "leaves")
    leave(stack, key, "/v1/chat/completions", chat_body("waits", stream=True), 1)
    eventually(lambda: stack.accounts()["key"].spent != "0")
    account = stack.settled()
    assert 0 < float(account.spent) < 0.03
    assert stack.accounts()["key"].held == "0"


def test_a_client_that_leaves_messages_in_mid_stream(stack: Stack) -> None:
    key = key_of(stack, "leaves")
    leave(stack, key, "/v1/messages", {**MESSAGE, "model": "claude-waits", "stream": True}, 1)
    eventually(lambda: stack.accounts()["key"].spent != "0")
    assert 0 < float(stack.settled().spent) < 0.03


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_before_the_answer(stack: Stack, stream: bool) -> None:
    """LiteLLM goes on until the provider answers. So long the request is held, and then it is charged."""
    leave_early(stack, key_of(stack, "early"), chat_body("waits-first", stream=stream))
    assert stack.seen()["running"] == stack.accounts()["key"].in_flight == 1
    stack.release()
    account = stack.settled()
    assert 0 < float(account.spent) <= 0.05
    assert account.held == "0"


# Ids.


def test_a_call_id_that_the_client_chooses_buys_nothing(stack: Stack) -> None:
    key = stack.key("ids", rpm_limit=3)
    codes = [
        stack.post("/v1/chat/completions", key, chat_body(), **{"x-litellm-call-id": "mine"}).status_code
        for _ in range(5)
    ]
    assert codes == [200, 200, 200, 429, 429]
    stack.settled()


def test_metadata_of_the_client_buys_nothing(stack: Stack) -> None:
    key = stack.key("metadata", rpm_limit=1)
    body = chat_body(metadata={"litellm_call_id": "mine", "user_api_key": "another"}, litellm_call_id="mine")
    codes = [stack.post("/v1/chat/completions", key, body).status_code for _ in range(3)]
    assert codes == [200, 429, 429], json.dumps(codes)
