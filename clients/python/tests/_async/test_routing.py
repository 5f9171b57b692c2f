"""One of several targets, and the next one if it fails."""

from __future__ import annotations

from typing import Any

import pytest

from redis_gateway import CallFailed, Denied, WrongType
from servers import Server

from ._runtime import gateway_on, until

TARGETS = ["{gpt}:eu", "{gpt}:us", "{gpt}:asia"]


def described(server: Server, key: str) -> dict[str, Any]:
    flat = server.run(f"GW.DESCRIBE {key}")
    assert isinstance(flat, list)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def policies(server: Server) -> None:
    server.run("GW.POLICYSET {ml} rpm WINDOW 4 PER 3600000")
    server.run("GW.POLICYSET {ml} month BUDGET 100 MONTH")
    for target in TARGETS:
        server.run(f"GW.POLICYSET {target} flight INFLIGHT 1")
        server.run(f"GW.POLICYSET {target} up BREAKER 2 PER 3600000 OPEN 3600000")


async def test_the_first_that_has_room(server: Server) -> None:
    policies(server)
    async with gateway_on(server.port) as gateway:
        async with await gateway.route(TARGETS, {"tokens": 10}) as one:
            async with await gateway.route(TARGETS, {"tokens": 10}) as two:
                assert (one.target, two.target, one.ok) == ("{gpt}:eu", "{gpt}:us", True)
                three = await gateway.route(TARGETS[:2])
                assert (three.target, three.outcome, three.reason) == ("", "denied", "limit")
                assert three.retry_after_ms > 0
        assert [described(server, target)["in_flight"] for target in TARGETS] == [0, 0, 0]
        assert described(server, TARGETS[0])["latency_ms"] is not None
        nobody = await gateway.route(["nobody", "nothing"])
        assert (nobody.reason, nobody.status_code) == ("no_account", 403)


async def test_the_next_one_if_it_fails(server: Server) -> None:
    policies(server)
    called: list[str] = []
    async with gateway_on(server.port) as gateway:
        async with await gateway.request("{ml}", TARGETS, {"usd": 1}, pick="FIRST") as request:
            async for attempt in request.attempts():
                async with attempt:
                    called.append(attempt.target)
                    if len(called) == 1:
                        raise CallFailed("429", retry_after=3600)
                    if len(called) == 2:
                        raise CallFailed("500")
                    attempt.use(usd="0.25")
        assert called == TARGETS
        assert described(server, TARGETS[0])["cooldown_ms"] > 0
        assert server.run("GW.SPENT {ml}") == "0.25"
        assert server.run(f"GW.SPENT {TARGETS[2]}") == "0.25"
        assert server.run(f"GW.SPENT {TARGETS[0]}") == "0"
        assert [described(server, target)["in_flight"] for target in TARGETS] == [0, 0, 0]


async def test_nobody_pays_if_all_fail(server: Server) -> None:
    policies(server)
    called: list[str] = []
    async with gateway_on(server.port) as gateway:
        with pytest.raises(Denied) as denied:
            async with await gateway.request("{ml}", TARGETS, {"usd": 1}, attempts=2, pick="FIRST") as request:
                async for attempt in request.attempts():
                    async with attempt:
                        called.append(attempt.target)
                        raise CallFailed
        assert (denied.value.reason, denied.value.status_code, called) == ("every_target_failed", 503, TARGETS[:2])
        assert request.admission.settlement.outcome == "settled"
        assert server.run("GW.SPENT {ml}") == "0"
        assert described(server, "{ml}")["counts"] == ["rpm", 0] or described(server, "{ml}")["counts"] == []


async def test_an_error_of_the_program_ends_all(server: Server) -> None:
    policies(server)
    async with gateway_on(server.port) as gateway:
        with pytest.raises(ZeroDivisionError):
            async with await gateway.request("{ml}", TARGETS, {"usd": 1}) as request:
                async for attempt in request.attempts():
                    async with attempt:
                        attempt.use(usd="0.5")
                        raise ZeroDivisionError
        assert server.run("GW.SPENT {ml}") == "0.5"
        assert [described(server, target)["in_flight"] for target in TARGETS] == [0, 0, 0]


async def test_denied_accounts_ask_no_target(server: Server) -> None:
    policies(server)
    async with gateway_on(server.port) as gateway:
        for _ in range(4):
            await (await gateway.admit("{ml}")).settle()
        with pytest.raises(Denied) as denied:
            async with await gateway.request("{ml}", TARGETS) as request:
                async for _ in request.attempts():
                    raise AssertionError("there was an attempt")
        assert (denied.value.reason, denied.value.status_code) == ("limit", 429)
        assert int(denied.value.headers["Retry-After"]) > 0


async def model(pieces: int, error: Exception) -> Any:
    for at in range(pieces):
        yield f"piece{at}"
    raise error


async def test_no_other_target_once_a_piece_was_passed_on(server: Server) -> None:
    policies(server)
    called: list[str] = []
    async with gateway_on(server.port) as gateway:
        with pytest.raises(CallFailed):
            async with await gateway.request("{ml}", TARGETS, {"usd": 1}, pick="FIRST") as request:
                async for attempt in request.attempts():
                    async with attempt:
                        called.append(attempt.target)
                        # The first one fails before it has sent anything.
                        async for _ in attempt.stream(model(len(called) - 1, CallFailed("broken off"))):
                            pass
        assert called == TARGETS[:2]
        assert [described(server, target)["in_flight"] for target in TARGETS] == [0, 0, 0]


async def test_ends_with_the_last_error(server: Server) -> None:
    policies(server)
    async with gateway_on(server.port) as gateway:
        with pytest.raises(Denied) as denied:
            async with await gateway.request("{ml}", TARGETS[:1], {"usd": 1}) as request:
                async for attempt in request.attempts():
                    async with attempt:
                        raise CallFailed("overloaded")
        assert str(denied.value.__cause__) == "overloaded"


class Counted:
    """A server that counts how often it is asked."""

    def __init__(self, gateway: Any) -> None:
        self.server = gateway._core.transport._alone
        self.trips = 0
        gateway._core.transport._alone = self

    async def ask(self, commands: Any, **options: Any) -> Any:
        self.trips += 1
        return await self.server.ask(commands, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.server, name)


async def test_accounts_and_targets_are_asked_in_one_round_trip(server: Server) -> None:
    policies(server)
    async with gateway_on(server.port) as gateway:
        counted = Counted(gateway)
        async with await gateway.request("{ml}", TARGETS, {"usd": 1}, pick="FIRST") as request:
            assert counted.trips == 1 and request.ok
            async for attempt in request.attempts():
                async with attempt:
                    assert (attempt.target, counted.trips) == (TARGETS[0], 1)
                    attempt.use(usd="0.5")
        assert [server.run(f"GW.SPENT {key}") for key in ("{ml}", TARGETS[0])] == ["0.5", "0.5"]
        # Its target is not called.
        async with await gateway.request("{ml}", TARGETS, {"usd": 1}):
            pass
        assert [described(server, target)["in_flight"] for target in TARGETS] == [0, 0, 0]
        assert server.run(f"GW.SPENT {TARGETS[1]}") == "0"


async def test_accounts_that_refuse_take_nothing_of_a_target(server: Server) -> None:
    policies(server)
    server.run("GW.POLICYSET {ml} rpm WINDOW 0 PER 3600000")
    async with gateway_on(server.port) as gateway:
        request = await gateway.request("{ml}", TARGETS, {"usd": 1})
        assert (request.ok, request.admission.reason) == (False, "limit")
        assert [described(server, target)["in_flight"] for target in TARGETS] == [0, 0, 0]
        server.run("SET text other")
        with pytest.raises(WrongType):
            await gateway.request("text", TARGETS, {"usd": 1})
        assert [described(server, target)["in_flight"] for target in TARGETS] == [0, 0, 0]
        server.run("GW.POLICYSET {ml} rpm WINDOW 9 PER 3600000")
        with pytest.raises(WrongType):
            await gateway.request("{ml}", ["text"], {"usd": 1})
        await gateway.send_kept()
        assert described(server, "{ml}")["in_flight"] == 0 and server.run("GW.SPENT {ml}") == "0"


class Overloaded(Exception):
    """As the package of a provider raises it."""


def with_wait(error: Exception) -> Any:
    return CallFailed("busy", retry_after=3600) if isinstance(error, Overloaded) else None


@pytest.mark.parametrize("failures", [Overloaded, (OSError, Overloaded), with_wait])
async def test_exceptions_of_a_providers_package_are_failures(server: Server, failures: Any) -> None:
    policies(server)
    called: list[str] = []
    async with gateway_on(server.port) as gateway:
        async with await gateway.request("{ml}", TARGETS, {"usd": 1}, pick="FIRST", failures=failures) as request:
            async for attempt in request.attempts():
                async with attempt:
                    called.append(attempt.target)
                    if len(called) == 1:
                        raise Overloaded
                    attempt.use(usd="0.25")
        assert called == TARGETS[:2]
        assert server.run("GW.SPENT {ml}") == "0.25"
        assert (described(server, TARGETS[0])["cooldown_ms"] > 0) == (failures is with_wait)
        # A stream, whose target fails before its first piece.
        attempt = await gateway.route(TARGETS[1:2], failures=failures)
        with pytest.raises(Overloaded):
            async for _ in attempt.stream(model(0, Overloaded())):
                pass
        assert isinstance(attempt.error, Overloaded) and not attempt.succeeded


async def test_an_error_of_the_program_tells_no_time(server: Server) -> None:
    """It would make the target look fast."""
    policies(server)

    def broken(error: Exception) -> Any:
        raise TypeError

    async with gateway_on(server.port) as gateway:
        for failures in ((), Overloaded, broken):
            with pytest.raises(ZeroDivisionError):
                async with await gateway.route(TARGETS[:1], failures=failures):
                    raise ZeroDivisionError
            attempt = await gateway.route(TARGETS[:1], failures=failures)
            with pytest.raises(ZeroDivisionError):
                async for _ in attempt.stream(model(1, ZeroDivisionError())):
                    pass
        assert described(server, TARGETS[0])["latency_ms"] is None
        assert described(server, TARGETS[0])["in_flight"] == 0


def breaker(server: Server) -> str:
    return str(described(server, "t")["breakers"][1][0])


async def test_what_says_nothing_about_a_target_does_not_move_its_breaker(server: Server) -> None:
    """An error of the program, or a client that leaves, before the target is known to have answered."""
    server.run("GW.POLICYSET t up BREAKER 1 PER 3600000 OPEN 1")
    server.run("GW.POLICYSET t month BUDGET 100 MONTH")

    async def broken_off(gateway: Any, stream: bool, pieces: int) -> None:
        attempt = await gateway.route(["t"], {"usd": 1})
        assert attempt.ok, attempt.rows
        if stream:
            source = attempt.stream(model(pieces, ZeroDivisionError()))
            if pieces:
                await source.__anext__()
            else:
                with pytest.raises(ZeroDivisionError):
                    await source.__anext__()
            await source.aclose()
        else:
            with pytest.raises(ZeroDivisionError):
                async with attempt:
                    if pieces:
                        attempt.use(usd="0.5")
                    raise ZeroDivisionError

    async with gateway_on(server.port) as gateway:
        for stream in (False, True):
            async with await gateway.route(["t"]):
                raise CallFailed
            await until(lambda: breaker(server) == "half-open")
            await broken_off(gateway, stream, 0)
            assert breaker(server) == "half-open"
            await broken_off(gateway, stream, 1)
            assert breaker(server) == "closed"
            assert described(server, "t")["in_flight"] == 0
    # The estimate of the first; what the second has told; nothing, because the model has failed; the estimate.
    assert server.run("GW.SPENT t") == "2.5"


async def test_a_target_that_is_forgotten_gets_its_money_also_if_it_said_nothing(server: Server) -> None:
    server.run("GW.POLICYSET t month BUDGET 100 MONTH")
    async with gateway_on(server.port) as gateway:
        with pytest.raises(ZeroDivisionError):
            async with await gateway.route(["t"], {"usd": 1}) as attempt:
                server.run("DEL t")
                raise ZeroDivisionError
        assert attempt.settlement.outcome == "charged"
    assert server.run("GW.SPENT t") == "1"


async def test_the_sum_of_the_attempts_has_the_estimate_of_what_was_not_told(server: Server) -> None:
    policies(server)
    called: list[str] = []
    async with gateway_on(server.port) as gateway:
        async with await gateway.request("{ml}", TARGETS, {"usd": 1, "tokens": 10}, pick="FIRST") as request:
            async for attempt in request.attempts():
                async with attempt:
                    called.append(attempt.target)
                    if len(called) == 1:
                        attempt.use(usd="0.25")
                        raise CallFailed
        assert server.run("GW.SPENT {ml}") == "1.25"
        assert [server.run(f"GW.SPENT {target}") for target in TARGETS[:2]] == ["0.25", "1"]


async def test_nothing_is_paid_if_the_loop_is_left_after_a_failure(server: Server) -> None:
    policies(server)
    async with gateway_on(server.port) as gateway:
        async with await gateway.request("{ml}", TARGETS, {"usd": 1}) as request:
            async for attempt in request.attempts():
                async with attempt:
                    raise CallFailed
                break
        assert server.run("GW.SPENT {ml}") == "0"
