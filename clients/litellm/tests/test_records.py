"""The record of each request in the log queue."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from proxies import Stack, eventually


def records(stack: Stack, key: str, count: int) -> list[dict[str, Any]]:
    """Those of a key. Records of requests before may come later."""
    account = "{litellm}:key:" + hashlib.sha256(key.encode()).hexdigest()

    def found() -> list[dict[str, Any]]:
        with stack.server.admin() as admin:
            told = [json.loads(one) for one in admin.execute_command("GW.LOGPEEK", "log:litellm", "COUNT", 1_000)]
        return [record for record in told if account in record["accounts"]]

    eventually(lambda: len(found()) == count)
    return found()


def test_each_request_has_one_record(stack: Stack) -> None:
    key = stack.key("records-one", user_id="u")
    assert stack.chat(key, stream=True).status_code == 200
    (record,) = records(stack, key, 1)
    assert record["outcome"] == "success" and record["known"] is True and record["degraded"] is False
    assert (record["model"], record["input_tokens"], record["output_tokens"], record["usd"]) == ("ok", 10, 20, "0.05")
    assert [account.split(":")[1] for account in record["accounts"]] == ["key", "user"]
    assert record["call_type"] == "acompletion"
    assert "Hi" not in json.dumps(record)


def test_errors_have_one_too(stack: Stack) -> None:
    key = stack.key("records-two")
    assert stack.chat(key, "refuses").status_code == 400
    assert stack.chat(key, text="this is not allowed").status_code == 400
    failure, refused = records(stack, key, 2)
    assert (failure["outcome"], failure["usd"]) == ("failure", "0")
    assert (refused["outcome"], refused["usd"]) == ("refused", "0")
