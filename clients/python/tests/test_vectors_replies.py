"""Every recorded call: the words that it sends, and the typed value of the reply's bytes.

In RESP2 and RESP3, from connections that decode strings and from those that do not, waiting and awaited.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
import redis_gateway._commands as low
from redis_gateway._commands import AsyncCommands, Commands, Request, requests
from vectors import from_json, load, name_of, native, to_json

Case = dict[str, Any]
CASES: list[Case] = load("replies.json")["cases"]


def arguments_of(case: Case) -> dict[str, Any]:
    """A call's arguments, as Python spells them."""
    return {name: argument(value, name) for name, value in case["arguments"].items()}


def argument(value: Any, name: str) -> Any:
    if isinstance(value, dict) and "base64" in value:
        return from_json(value)
    if isinstance(value, dict) and "kind" in value:
        return getattr(low, value["kind"])(**{key: one for key, one in value.items() if key != "kind"})
    if isinstance(value, list):
        if name in ("budgets", "versions"):
            return [tuple(one) for one in value]
        return [argument(one, "") for one in value]
    return value


def request_of(case: Case) -> Request[Any]:
    make: Callable[..., Request[Any]] = getattr(requests, case["method"].replace("-", "_"))
    return make(**arguments_of(case))


def sent(args: tuple[object, ...]) -> list[Any]:
    """What a connection writes."""
    return [to_json(arg if isinstance(arg, bytes) else str(arg).encode()) for arg in args]


def plain(value: Any) -> Any:
    """A typed value as the vectors write it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, str):
        return to_json(value.encode("utf-8", "surrogateescape"))
    return to_json(value) if isinstance(value, bytes) else value


def expected(case: Case, protocol: str) -> Any:
    value = case[protocol]["value"]
    if isinstance(value, dict) and "kind" in value and case["method"] == "describe":
        return {name: one for name, one in value.items() if name != "kind"}
    return value


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_request_sends_the_recorded_words(case: Case) -> None:
    request = request_of(case)
    assert sent(request.args) == case["request"]
    assert request.repeatable is case["repeatable"]
    # Cluster clients look the command up by its name.
    assert isinstance(request.args[0], str)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.mark.parametrize("decoded", [False, True], ids=["bytes", "decoded"])
@pytest.mark.parametrize("protocol", ["resp2", "resp3"])
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_reply_has_the_recorded_value(
    case: Case, protocol: str, decoded: bool, loop: asyncio.AbstractEventLoop
) -> None:
    reply = native(from_json(case[protocol]["reply"]), decoded)
    calls: list[tuple[object, ...]] = []

    def execute(*args: object) -> object:
        calls.append(args)
        return reply

    async def execute_later(*args: object) -> object:
        await asyncio.sleep(0)
        return execute(*args)

    name = case["method"].replace("-", "_")
    named = arguments_of(case)
    value = getattr(Commands(execute), name)(**named)
    assert plain(value) == expected(case, protocol)
    if case["method"] == "describe" and value is not None:
        assert type(value).__name__ == case[protocol]["value"]["kind"]
    assert loop.run_until_complete(getattr(AsyncCommands(execute_later), name)(**named)) == value
    assert [sent(call) for call in calls] == [case["request"]] * 2


def test_every_method_is_recorded() -> None:
    methods = {name for name in vars(Commands) if not name.startswith("_") and name != "run"}
    assert {case["method"].replace("-", "_") for case in CASES} == methods
