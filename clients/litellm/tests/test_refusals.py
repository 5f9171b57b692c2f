"""What a client is told when a limit is in the way."""

from __future__ import annotations

import threading
from typing import Any

import httpx
import openai
import pytest

from proxies import Stack, chat_body, eventually


def error_of(response: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = response.json()["error"]
    return found


def test_every_policy_in_the_way_is_named(stack: Stack) -> None:
    key = stack.key("two", rpm_limit=2, team_id="t1", team_rpm_limit=2, user_id="u1", user_rpm_limit=50)
    assert [stack.chat(key).status_code for _ in range(2)] == [200, 200]
    response = stack.chat(key)
    assert response.status_code == 429
    error = error_of(response)
    policies = error["provider_specific_fields"]["policies"]
    assert [(one["scope"], one["policy"], one["type"], one["limit"]) for one in policies] == [
        ("key", "rpm", "requests", 2),
        ("team", "rpm", "requests", 2),
    ]
    assert "key: rpm of 2 requests in 60 s; team: rpm of 2 requests in 60 s" in error["message"]
    assert error["code"] == "429"
    # Nothing of the key's name: it is the hash of a secret.
    assert "litellm:key" not in response.text


def test_headers_are_true(stack: Stack) -> None:
    key = stack.key("headers", rpm_limit=1)
    response = stack.chat(key)
    assert response.headers["x-ratelimit-remaining-requests"] == "0"
    response = stack.chat(key)
    assert response.status_code == 429
    assert 0 < int(response.headers["Retry-After"]) <= 60
    assert response.headers["RateLimit-Policy"] == '"rpm";q=1;w=60'
    assert response.headers["x-ratelimit-limit-requests"] == "1"
    assert response.headers["anthropic-ratelimit-requests-remaining"] == "0"


def test_the_error_is_the_one_that_sdks_know(stack: Stack) -> None:
    key = stack.key("sdk", rpm_limit=0)
    client = openai.OpenAI(base_url=f"{stack.urls[0]}/v1", api_key=key, max_retries=0)
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="ok", messages=[{"role": "user", "content": "Hi"}])


def test_messages_and_responses_are_refused_as_their_clients_expect(stack: Stack) -> None:
    key = stack.key("paths", rpm_limit=1)
    message = {"model": "claude-ok", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
    assert stack.post("/v1/messages", key, message).status_code == 200
    response = stack.post("/v1/messages", key, message)
    assert response.status_code == 429
    assert response.json()["type"] == "error"
    assert error_of(response)["type"] == "rate_limit_error"
    assert "key: rpm of 1 requests in 60 s" in error_of(response)["message"]
    assert 0 < int(response.headers["Retry-After"]) <= 60
    assert response.headers["anthropic-ratelimit-requests-remaining"] == "0"
    response = stack.post("/v1/responses", key, {"model": "ok", "input": "Hi"})
    assert response.status_code == 429
    assert error_of(response)["provider_specific_fields"]["policies"][0]["policy"] == "rpm"
    assert 0 < int(response.headers["Retry-After"]) <= 60


def test_a_limit_of_none_is_not_worth_waiting_for(stack: Stack) -> None:
    response = stack.chat(stack.key("zero", rpm_limit=0))
    assert response.status_code == 429
    assert "Waiting does not help" in error_of(response)["message"]
    assert "Retry-After" not in response.headers


def test_a_stream_is_refused_before_it_begins(stack: Stack) -> None:
    response = stack.chat(stack.key("stream", rpm_limit=0), stream=True)
    assert response.status_code == 429
    assert stack.seen()["calls"] == []


def test_a_budget(stack: Stack) -> None:
    """0.05 an answer. 20 tokens of output are held at their price while the answer is on its way."""
    key = stack.key("budget", max_budget=0.12)
    assert [stack.chat(key, max_tokens=20).status_code for _ in range(1)] == [200]
    eventually(lambda: stack.accounts()["key"].spent == "0.05")
    assert stack.chat(key, max_tokens=20).status_code == 200
    eventually(lambda: stack.accounts()["key"].spent == "0.1")
    response = stack.chat(key, max_tokens=20)
    assert response.status_code == 429
    fields = error_of(response)["provider_specific_fields"]
    assert fields["type"] == "budget_exceeded"
    assert [(one["scope"], one["policy"], one["limit"], one["remaining"]) for one in fields["policies"]] == [
        ("key", "budget", "0.12", "0.02")
    ]
    assert "Waiting does not help" in error_of(response)["message"]
    assert "Retry-After" not in response.headers


def test_tokens(stack: Stack) -> None:
    key = stack.key("tokens", tpm_limit=60)
    assert stack.chat(key, max_tokens=20).status_code == 200
    stack.settled()
    assert stack.chat(key, max_tokens=20).status_code == 200
    eventually(lambda: stack.accounts()["key"].counts["tpm"] == 60)
    response = stack.chat(key, max_tokens=20)
    assert response.status_code == 429
    assert [one["type"] for one in error_of(response)["provider_specific_fields"]["policies"]] == ["tokens"]


def test_requests_at_a_time(stack: Stack) -> None:
    key = stack.key("parallel", max_parallel_requests=1)
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(stack.chat(key, "waits-first")))
    thread.start()
    eventually(lambda: stack.seen()["running"] == 1)
    response = stack.chat(key)
    assert response.status_code == 429
    policy = error_of(response)["provider_specific_fields"]["policies"][0]
    assert (policy["policy"], policy["type"], policy["limit"]) == ("parallel", "max_parallel_requests", 1)
    stack.release()
    thread.join()
    assert answers[0].status_code == 200
    stack.settled()
    assert stack.chat(key).status_code == 200


def test_a_limit_of_one_model_falls_back_to_another(stack: Stack) -> None:
    """As with LiteLLM's own limiter: the next model of the fallbacks is asked."""
    key = stack.key("model", metadata={"model_rpm_limit": {"ok": 1}})
    assert [stack.chat(key).status_code for _ in range(3)] == [200, 200, 200]
    response = stack.chat(key, disable_fallbacks=True)
    assert response.status_code == 429
    assert "key for model ok: rpm of 1 requests in 60 s" in error_of(response)["message"]


def test_a_refused_request_costs_nothing(stack: Stack) -> None:
    key = stack.key("nothing", rpm_limit=1, team_id="t2", team_rpm_limit=100)
    assert [stack.chat(key).status_code for _ in range(4)] == [200, 429, 429, 429]
    assert stack.settled("team").counts["rpm"] == 1


def test_a_body_without_a_model_is_litellms_business(stack: Stack) -> None:
    key = stack.key("nobody", rpm_limit=10, max_parallel_requests=1)
    body = chat_body()
    del body["model"]
    assert stack.post("/v1/chat/completions", key, body).status_code == 400
    stack.settled()
