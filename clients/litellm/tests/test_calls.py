"""The bookkeeping of calls, without a proxy: orders of events that a proxy shows seldom."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest

from redis_gateway import AsyncGateway
from redis_gateway.testing import FakeRedis
from redis_gateway_litellm.background import Background
from redis_gateway_litellm.calls import Call, Calls, Use, current_call, use_of
from redis_gateway_litellm.estimates import Estimate

ACCOUNT = "{litellm}:key:1"
ESTIMATE = Estimate(10, 20, Decimal("0.01"), Decimal("0.04"))
USED = Use(5, 5, Decimal("0.015"))


class World:
    def __init__(self, unreported_after: float = 30.0) -> None:
        self.gateway = AsyncGateway(FakeRedis())
        self.ended: list[tuple[Call, Use | None]] = []
        self.calls = Calls(unreported_after, lambda call, use: self.ended.append((call, use)), Background())

    async def begin(self, call_type: str = "acompletion", auth: object = None, **data: Any) -> Call:
        admission = await self.gateway.admit(ACCOUNT, ESTIMATE.amounts())
        call = Call(admission, [], ESTIMATE, call_type, auth, {"litellm_call_id": "a", **data})
        self.calls.begin(call)
        return call


def told(work: Callable[[World], Awaitable[None]], unreported_after: float = 30.0) -> list[Use | None]:
    """What each call was settled with, in order."""

    async def main() -> list[Use | None]:
        world = World(unreported_after)
        # As a request of the proxy: in a task and a context of its own.
        await asyncio.get_running_loop().create_task(as_coroutine(work, world))
        while len(world.calls):
            await asyncio.sleep(0.001)
        await world.gateway.aclose()
        return [use for _, use in world.ended]

    return asyncio.run(main())


async def as_coroutine(work: Callable[[World], Awaitable[None]], world: World) -> None:
    await work(world)


@pytest.mark.parametrize("early", [False, True])
def test_the_event_before_the_end_and_after_it(early: bool) -> None:
    async def work(world: World) -> None:
        call = await world.begin()
        call.asked = True
        if early:
            world.calls.succeeded(call, USED)
        else:
            asyncio.get_running_loop().call_later(0.01, world.calls.succeeded, call, USED)

    assert told(work) == [USED]


def test_several_events_are_added_up() -> None:
    """As those of a connection that serves several turns."""

    async def work(world: World) -> None:
        call = await world.begin()
        world.calls.succeeded(call, USED)
        world.calls.succeeded(call, USED)

    assert told(work) == [Use(10, 10, Decimal("0.030"))]


def test_without_an_event_the_estimate_is_charged() -> None:
    async def work(world: World) -> None:
        (await world.begin()).asked = True

    assert told(work, 0.0) == [None]


def test_without_an_event_a_stream_that_has_not_begun_costs_its_input() -> None:
    async def work(world: World) -> None:
        (await world.begin(stream=True)).asked = True

    assert told(work, 0.0) == [Use(10, 0, Decimal("0.01"))]


def test_a_stream_that_is_passed_on_is_waited_for() -> None:
    async def work(world: World) -> None:
        call = await world.begin(stream=True)
        call.asked = call.passing = True

        def end() -> None:
            assert not call.settling
            call.passing = False
            world.calls.succeeded(call, USED)

        asyncio.get_running_loop().call_later(0.05, end)

    assert told(work, 0.001) == [USED]


def test_a_request_that_asked_nobody_is_undone() -> None:
    async def work(world: World) -> None:
        await world.begin()

    assert told(work) == [Use(0, 0, Decimal(0))]


def test_a_call_within_a_call_is_one_of_its_own() -> None:
    """A plugin that asks a model by the same hooks, before the request itself has asked one."""

    async def work(world: World) -> None:
        outer = await world.begin(litellm_call_id="outer")
        inner = await world.begin("aembedding", litellm_call_id="inner")
        assert not outer.settling
        assert current_call("outer") is outer
        assert current_call("inner") is inner
        assert current_call("another") is None
        world.calls.succeeded(inner, USED)
        world.calls.succeeded(outer, USED + USED)

    assert told(work) == [USED + USED, USED] or told(work) == [USED, USED + USED]


def test_a_use_that_comes_too_late_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def work(world: World) -> None:
        call = await world.begin()
        call.asked = True
        world.calls.request_failed(call, USED, unseen=False)
        world.calls.succeeded(call, USED)

    assert told(work) == [USED]
    assert "not charged" in caplog.text


def test_what_litellm_tells() -> None:
    payload = {"response_cost": 0.1, "prompt_tokens": 3, "completion_tokens": 4}
    assert use_of({"standard_logging_object": payload}) == Use(3, 4, Decimal("0.100000000000"))
    assert use_of({"standard_logging_object": {**payload, "cache_hit": True}}) == Use(0, 0, Decimal(0))
    assert use_of({"standard_logging_object": {**payload, "response_cost": float("nan")}}).usd == 0
    assert use_of({}) == Use(0, 0, Decimal(0))


def test_a_call_that_litellm_does_not_announce_is_charged_what_it_reports_afterwards() -> None:
    """A stream that is passed through to a provider: no hook before it is asked, and an event after the end."""

    async def work(world: World) -> None:
        call = await world.begin("pass_through_endpoint", stream=True)
        asyncio.get_running_loop().call_later(0.01, world.calls.succeeded, call, USED)

    assert told(work) == [USED]


def test_settled_calls_of_a_connection_are_let_go() -> None:
    """A server may begin a request in the context of the one before."""

    async def work(world: World) -> None:
        first = await world.begin(litellm_call_id="first")
        second = await world.begin("aembedding", litellm_call_id="second")
        assert second.outer is first
        world.calls.undo(first)
        third = await world.begin("aembedding", auth=third_auth, litellm_call_id="third")
        assert third.outer is second
        assert second.outer is None

    third_auth = object()
    assert len(told(work)) == 3


def test_what_was_admitted_for_a_refused_model_is_given_back_before_the_next_question() -> None:
    """Else a request with one place would be in its own way."""

    async def work(world: World) -> None:
        auth = object()
        first = await world.begin(auth=auth)
        await world.calls.give_back("acompletion", auth)
        assert first.admission.settlement is not None
        second = await world.begin(auth=auth)
        assert second.outer is None
        world.calls.succeeded(second, USED)
        await world.calls.give_back("acompletion", auth)
        assert not second.settling

    assert told(work) == [Use(0, 0, Decimal(0)), USED]
