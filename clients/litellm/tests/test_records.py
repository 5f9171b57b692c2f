"""The record of each request in the log queue."""

from __future__ import annotations

import json
from typing import Any

from proxies import Stack
from servers import eventually


def records(stack: Stack, count: int) -> list[dict[str, Any]]:
    eventually(lambda: stack.server.run("GW.LOGLEN log:litellm") == count)
    with stack.server.admin() as admin:
        return [json.loads(one) for one in admin.execute_command("GW.LOGPEEK", "log:litellm", "COUNT", 100)]


def test_each_request_has_one_record(stack: Stack) -> None:
    key = stack.key("records", user_id="u")
    assert stack.chat(key, stream=True).status_code == 200
    (record,) = records(stack, 1)
    assert record["outcome"] == "success" and record["known"] is True and record["degraded"] is False
    assert (record["model"], record["input_tokens"], record["output_tokens"], record["usd"]) == ("ok", 10, 20, "0.05")
    assert [account.split(":")[1] for account in record["accounts"]] == ["key", "user"]
    assert record["call_type"] == "acompletion"
    assert "Hi" not in json.dumps(record)


def test_errors_have_one_too(stack: Stack) -> None:
    key = stack.key("records")
    assert stack.chat(key, "refuses").status_code == 400
    assert stack.chat(key, text="this is not allowed").status_code == 400
    failure, refused = records(stack, 2)
    assert (failure["outcome"], failure["usd"]) == ("failure", "0")
    assert (refused["outcome"], refused["usd"]) == ("refused", "0")
