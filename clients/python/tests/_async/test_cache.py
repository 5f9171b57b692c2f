"""The cache: one computation for all who ask for the same."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import pytest

from redis_gateway import Kept, Unavailable
from redis_gateway._commands import requests
from servers import Server

from ._runtime import PATIENT, gateway_on, sleep, together, until

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 1.0, "stream": True}


class Model:
    """Counts how often it is called."""

    def __init__(self, answer: Any = "answer", takes: float = 0.0, failures: int = 0) -> None:
        self.calls = 0
        self.answer = answer
        self.takes = takes
        self.failures = failures

    async def __call__(self) -> Any:
        self.calls += 1
        call = self.calls
        if self.takes:
            await sleep(self.takes)
        if call <= self.failures:
            raise ValueError(f"failure {call}")
        return self.answer


async def test_a_hit_computes_nothing(server: Server) -> None:
    model = Model({"text": "Hello ü"})
    async with gateway_on(server.port) as gateway:
        cache = gateway.cache("chat", tenant="ml", ignore=("stream",))
        for _ in range(3):
            assert await cache.get_or_compute(REQUEST, model, tags=["user:1"], saved="0.5") == {"text": "Hello ü"}
        assert model.calls == 1
        # The same request, written otherwise, and the server's own key for it.
        same = {"temperature": 1, "messages": REQUEST["messages"], "model": "m"}
        assert await cache.get(same) == {"text": "Hello ü"}
        text = '{"temperature":1,"model":"m","messages":[{"role":"user","content":"hi"}]}'
        with server.admin() as admin:
            assert cache.key(same) == admin.execute_command("GW.CACHEKEY", "chat:ml", text)
        # Another tenant.
        assert await gateway.cache("chat", tenant="sales", ignore=("stream",)).get(REQUEST) is None
        assert (await cache.figures())[0].hits >= 3
        assert await gateway.clear_tag("user:1") == 1
        assert await cache.get(REQUEST) is None
        await cache.set(REQUEST, 1)
        assert await cache.delete(REQUEST) and not await cache.delete(REQUEST)
        await cache.set(REQUEST, 1)
        assert await cache.clear() == 1
        assert gateway.figures()["cache{category=chat,result=miss}"] >= 1


async def test_equal_calls_in_a_process_compute_once(server: Server) -> None:
    model = Model(takes=0.2)
    async with gateway_on(server.port) as gateway:
        cache = gateway.cache("chat")
        answers = await together(*[lambda: cache.get_or_compute(REQUEST, model)] * 10)
        assert answers == ["answer"] * 10 and model.calls == 1
        assert gateway.figures()["cache{category=chat,result=coalesced}"] >= 1


@pytest.mark.parametrize("cached", [False, True])
async def test_each_caller_has_an_answer_of_its_own(own_server: Server, cached: bool) -> None:
    """Whoever changes it changes nobody else's, nor what is stored."""
    asking: list[int] = []

    async def all_have_asked() -> None:
        await until(lambda: len(asking) == 5)
        await sleep(0.05)

    async def compute() -> Any:
        await all_have_asked()
        return {"choices": ["Hello"]}

    async with gateway_on(own_server.port) as gateway:
        cache = gateway.cache("chat", wait=20)
        if cached:
            await cache.set(REQUEST, {"choices": ["Hello"]})
            own_server.freeze()

        async def change() -> Any:
            asking.append(1)
            answer = await cache.get_or_compute(REQUEST, compute)
            answer["choices"].append("changed")
            return answer

        async def thaw() -> None:
            await all_have_asked()
            own_server.thaw()

        *answers, _ = await together(*[change] * 5, thaw)
        assert answers == [{"choices": ["Hello", "changed"]}] * 5
        assert len({id(answer["choices"]) for answer in answers}) == 5
        assert await cache.get(REQUEST) == {"choices": ["Hello"]}
        assert gateway.figures()["cache{category=chat,result=coalesced}"] >= 1


async def test_each_caller_of_a_stream_has_pieces_of_its_own(server: Server) -> None:
    async def model() -> Any:
        for at in range(3):
            await sleep(0.05)
            yield {"delta": [at]}

    async with gateway_on(server.port) as gateway:
        cache = gateway.stream_cache("chat")

        async def change() -> list[Any]:
            found = []
            async for piece in cache.stream(REQUEST, model):
                piece["delta"].append("changed")
                found.append(piece)
            return found

        expected = [{"delta": [at, "changed"]} for at in range(3)]
        assert await together(*[change] * 3, change) == [expected] * 4
        assert await change() == expected


async def test_figures_are_told_by_category(server: Server) -> None:
    """Also those of streams, whose callers wait for each other as well."""
    begun: list[int] = []

    async def model() -> Any:
        begun.append(1)
        await until(lambda: len(asking) == 3)
        await sleep(0.05)  # Until the others wait.
        yield "piece"

    asking: list[int] = []
    async with gateway_on(server.port) as gateway:
        streams = gateway.stream_cache("chat", wait=20)

        async def ask() -> list[Any]:
            asking.append(1)
            return [piece async for piece in streams.stream(REQUEST, model)]

        assert await together(*[ask] * 3) == [["piece"]] * 3 and len(begun) == 1
        await gateway.cache("title").get(REQUEST)
        figures = {name: count for name, count in gateway.figures().items() if name.startswith("cache{")}
        assert figures == {
            "cache{category=chat,result=miss}": 1,
            "cache{category=chat,result=coalesced}": 2,
            "cache{category=title,result=miss}": 1,
        }
        impatient = gateway.stream_cache("chat", wait=0.01)

        async def slow() -> Any:
            await until(lambda: "cache{category=chat,result=wait_timeout}" in gateway.figures())
            yield "piece"

        async def once(compute: Any) -> list[Any]:
            return [piece async for piece in impatient.stream({"n": 1}, compute)]

        async def quick() -> Any:
            yield "another"

        async def second() -> list[Any]:
            await until(lambda: bool(impatient._cache._flights))
            return await once(quick)

        assert await together(lambda: once(slow), second) == [["piece"], ["another"]]


async def test_an_answer_that_cannot_be_encoded_is_shared_with_nobody(server: Server) -> None:
    calls: list[object] = []

    async def compute() -> Any:
        calls.append(object())
        await sleep(0.05)
        return calls[-1]

    async with gateway_on(server.port) as gateway:
        cache = gateway.cache("chat")
        answers = await together(*[lambda: cache.get_or_compute(REQUEST, compute)] * 3)
        assert sorted(map(id, answers)) == sorted(map(id, calls)) and len(calls) == 3


async def test_processes_compute_once(server: Server) -> None:
    model = Model(takes=0.3)
    async with gateway_on(server.port) as one, gateway_on(server.port) as two, gateway_on(server.port) as three:
        works = [
            lambda gateway=gateway: gateway.cache("chat").get_or_compute(REQUEST, model)
            for gateway in (one, two, three)
        ]
        assert await together(*works) == ["answer"] * 3
        assert model.calls == 1


async def test_a_wait_is_made_of_parts(server: Server) -> None:
    """Each is shorter than the connection's time-out, so that a server that is gone is noticed."""
    model = Model(takes=1.5)
    settings = dataclasses.replace(PATIENT, waiting_timeout=0.5)
    async with gateway_on(server.port, settings) as one, gateway_on(server.port, settings) as two:
        works = [lambda gateway=gateway: gateway.cache("chat").get_or_compute(REQUEST, model) for gateway in (one, two)]
        assert await together(*works) == ["answer"] * 2
        assert model.calls == 1


async def test_more_waiters_than_connections(server: Server) -> None:
    models = [Model(at, takes=0.3) for at in range(4)]
    settings = dataclasses.replace(PATIENT, waiting_connections=1, timeout=0.5)
    async with gateway_on(server.port) as one, gateway_on(server.port, settings) as two:
        works = []
        for at, model in enumerate(models):
            for gateway in (one, two):
                works.append(
                    lambda gateway=gateway, at=at, model=model: gateway.cache("chat").get_or_compute({"n": at}, model)
                )
        await together(*works)
        assert [model.calls for model in models] == [1] * 4


async def test_if_it_fails_the_next_one_computes(server: Server) -> None:
    model = Model(takes=0.1, failures=1)
    async with gateway_on(server.port) as one, gateway_on(server.port) as two:
        works = [
            lambda gateway=gateway: gateway.cache("chat").get_or_compute(REQUEST, model) for gateway in (one, one, two)
        ]
        answers = await together(*works)
        assert sorted(map(str, answers)) == ["answer", "answer", "failure 1"] and model.calls == 2


async def test_stale_is_served_and_refreshed(server: Server) -> None:
    model = Model("new", takes=0.05)
    async with gateway_on(server.port) as gateway:
        cache = gateway.cache("chat", ttl=0.05, stale=3600)
        await cache.set(REQUEST, "old")
        await sleep(0.1)
        assert await cache.get_or_compute(REQUEST, model) == "old"
        assert await cache.get_or_compute(REQUEST, model) == "old"
        await until(lambda: model.calls == 1)
        fresh = gateway.cache("chat", ttl=3600, stale=3600)

        async def refreshed() -> bool:
            return bool(await fresh.get(REQUEST) == "new")

        await until(refreshed)
        assert model.calls == 1


async def test_a_refresh_that_fails_gives_its_lease_up(server: Server) -> None:
    model = Model("new", failures=1)
    async with gateway_on(server.port) as gateway:
        cache = gateway.cache("chat", ttl=0.05, stale=3600)
        await cache.set(REQUEST, "old")
        await sleep(0.1)
        assert await cache.get_or_compute(REQUEST, model) == "old"
        await until(lambda: gateway.figures().get("cache{category=chat,result=refresh_failed}") == 1)

        async def tried_again() -> bool:
            await cache.get_or_compute(REQUEST, model)
            return model.calls == 2

        await until(tried_again)


async def test_an_error_of_the_cache_is_a_miss(server: Server) -> None:
    model = Model()
    async with gateway_on(server.port) as gateway:
        cache = gateway.cache("chat")
        server.run(f"SET {cache.key(REQUEST)} other")
        assert await cache.get_or_compute(REQUEST, model) == "answer"
        server.run(f"DEL {cache.key(REQUEST)}")
        server.run(f"GW.CACHESET {cache.key(REQUEST)} not-json")
        assert await cache.get_or_compute(REQUEST, model) == "answer"
        assert await cache.get(REQUEST) == "answer" and model.calls == 2


async def test_away_it_computes(own_server: Server) -> None:
    model = Model(takes=0.1)
    own_server.stop()
    async with gateway_on(own_server.port) as gateway:
        cache = gateway.cache("chat")
        assert await together(*[lambda: cache.get_or_compute(REQUEST, model)] * 3) == ["answer"] * 3
        assert model.calls == 1
        assert await cache.get(REQUEST) is None


class Streams:
    def __init__(self, pieces: int = 3, fails_at: int = -1) -> None:
        self.calls = 0
        self.pieces = pieces
        self.fails_at = fails_at

    async def __call__(self) -> Any:
        self.calls += 1
        for at in range(self.pieces):
            await sleep(0.02)
            if at == self.fails_at and self.calls == 1:
                raise ValueError("broken off")
            yield f"piece{at}"


async def collected(pieces: Any) -> list[Any]:
    found = []
    async for piece in pieces:
        found.append(piece)
    return found


async def test_many_entries_go_together(own_server: Server) -> None:
    """Each as it would alone, in a hundredth of the round trips."""
    texts = [f"text {at}" for at in range(250)]

    async with gateway_on(own_server.port) as gateway:
        cache = gateway.cache("embed", encode=bytes, decode=bytes)
        own, trips = gateway._core.transport.many, []

        async def many(sent: Any) -> Any:
            trips.append(len(sent))
            return await own(sent)

        gateway._core.transport.many = many
        await cache.set_many([(text, text.encode()) for text in texts[:200]], tags=["m"], saved="0.1")
        own_server.run(f"GW.CACHEDEL {cache.key(texts[1])}")
        own_server.run(f"SET {cache.key(texts[1])} other")
        values = await cache.get_many(iter(texts), b"default")
        assert values == [texts[0].encode(), b"default", *(text.encode() for text in texts[2:200]), *[b"default"] * 50]
        assert trips == [100, 100, 100, 100, 50]
        assert gateway.figures() == {
            "cache{category=embed,result=hit}": 199,
            "cache{category=embed,result=error}": 1,
            "cache{category=embed,result=miss}": 50,
        }
        assert await gateway.clear_tag("m") == 199
        # Large ones, of which one cannot be stored; and one that cannot be encoded, so that none is.
        trips.clear()
        await cache.set_many((text, bytes(200 * 1024)) for text in texts[:4])
        assert trips == [2, 2] and gateway.figures()["cache{category=embed,result=not_stored}"] == 1
        assert [value is not None for value in await cache.get_many(texts[:4])] == [True, False, True, True]
        with pytest.raises(TypeError):
            await cache.set_many([("new", b""), ("newer", "no bytes")])
        assert await cache.get_many(["new"]) == [None] and await cache.get_many([]) == []
        await cache.set_many([])
        own_server.stop()
        assert await cache.get_many(texts[:2], b"default") == [b"default"] * 2
        assert sum(count for name, count in gateway.figures().items() if "result=away" in name) == 2


async def test_lifetimes_are_the_servers_or_the_callers(own_server: Server) -> None:
    def lifetime(cache: Any) -> int:
        return math.ceil(int(str(own_server.run(f"PTTL {cache.key(REQUEST)}"))) / 1000)

    with own_server.admin() as admin:
        for name, value in (("gw.cache-ttl", "chat=600"), ("gw.cache-stale", "chat=60")):
            admin.execute_command("CONFIG", "SET", name, value)
    async with gateway_on(own_server.port) as gateway:
        for options, expected in (
            ({}, 660),
            ({"stale": 0}, 600),
            ({"ttl": 100}, 160),
            ({"ttl": 100, "stale": 50}, 150),
        ):
            cache = gateway.cache("chat", **options)
            await cache.set(REQUEST, 1)
            assert expected - 30 < lifetime(cache) <= expected, options
        other = gateway.cache("title")
        assert await other.get_or_compute(REQUEST, Model(1)) == 1
        assert 3_570 < lifetime(other) <= 3_600


async def test_streams_are_stored_when_complete(server: Server) -> None:
    model = Streams()
    whole = ["piece0", "piece1", "piece2"]
    async with gateway_on(server.port) as one, gateway_on(server.port) as two:
        cache = one.stream_cache("chat")
        # Left before its end: nothing is stored, and the lease is free.
        pieces = cache.stream(REQUEST, model)
        async for _ in pieces:
            break
        await pieces.aclose()
        assert model.calls == 1
        works = [
            lambda gateway=gateway: collected(gateway.stream_cache("chat").stream(REQUEST, model))
            for gateway in (one, two)
        ]
        assert await together(*works) == [whole] * 2
        assert model.calls == 2
        assert await collected(cache.stream(REQUEST, model)) == whole
        assert model.calls == 2


async def test_a_stream_that_breaks_off_is_not_stored(server: Server) -> None:
    model = Streams(fails_at=1)
    async with gateway_on(server.port) as gateway:
        cache = gateway.stream_cache("chat")
        with pytest.raises(ValueError):
            await collected(cache.stream(REQUEST, model))
        assert await collected(cache.stream(REQUEST, model)) == ["piece0", "piece1", "piece2"]
        assert model.calls == 2


async def test_none_and_empty_are_values(server: Server) -> None:
    missing = object()
    async with gateway_on(server.port) as gateway:
        for value in (None, "", [], 0, False):
            cache = gateway.cache("chat")
            model = Model(value)
            assert await cache.get(REQUEST, missing) is missing
            assert [await cache.get_or_compute(REQUEST, model) for _ in range(2)] == [value] * 2
            assert model.calls == 1 and await cache.get(REQUEST, missing) == value
            await cache.delete(REQUEST)
        raw = gateway.cache("raw", encode=bytes, decode=bytes)
        assert [await raw.get_or_compute(REQUEST, Model(b"")) for _ in range(2)] == [b"", b""]


async def test_a_lost_reply_loses_no_fill_lease(own_server: Server) -> None:
    """The call has a name of its own: asked again, it has its lease again."""
    settings = dataclasses.replace(PATIENT, timeout=0.2, pause=0.05)
    async with gateway_on(own_server.port, settings) as gateway:
        cache = gateway.cache("chat")
        assert await cache.get({"warm": 1}) is None

        async def compute() -> str:
            own_server.thaw()
            await sleep(0.3)
            return "answer"

        own_server.freeze()
        assert await cache.get_or_compute(REQUEST, compute) == "answer"
        assert await cache.get(REQUEST) == "answer"


async def test_without_the_cache_a_bounded_number_is_computed(own_server: Server) -> None:
    own_server.stop()
    running, most = 0, 0

    async def compute() -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await sleep(0.05)
        running -= 1
        return 1

    async with gateway_on(own_server.port) as gateway:
        cache = gateway.cache("chat", computing=2)
        await together(*[lambda at=at: cache.get_or_compute({"n": at}, compute) for at in range(8)])
        assert most == 2


async def test_waits_hold_up_no_other_call(server: Server) -> None:
    model = Model(takes=1.0)
    settings = dataclasses.replace(PATIENT, connections=1, waiting_connections=2)
    async with gateway_on(server.port) as one, gateway_on(server.port, settings) as two:

        async def others() -> float:
            await sleep(0.3)
            started = time.monotonic()
            for _ in range(20):
                assert (await two.allow("k", 1000)).outcome == "admitted"
            return time.monotonic() - started

        works = [lambda gateway=gateway: gateway.cache("chat").get_or_compute(REQUEST, model) for gateway in (one, two)]
        *answers, took = await together(*works, others)
        assert answers == ["answer"] * 2 and took < 0.7


async def free(cache: Any, request: Any) -> bool:
    """Whether a caller who asks now gets the fill lease."""
    answer = await cache._core.run(requests.cache_lease(cache.key(request), lease_ms=1, holder="another"))
    return bool(answer.state == "MISS" and answer.token)


async def test_what_cannot_be_stored_gives_its_lease_up(own_server: Server) -> None:
    async with gateway_on(own_server.port) as gateway:
        cache = gateway.cache("chat")

        async def compute() -> str:
            own_server.run("CONFIG SET maxmemory 1")
            return "answer"

        assert await cache.get_or_compute(REQUEST, compute) == "answer"
        assert gateway.figures()["cache{category=chat,result=not_stored}"] == 1
        own_server.run("CONFIG SET maxmemory 0")
        assert await free(cache, REQUEST)


async def test_a_value_that_cannot_be_encoded_is_returned(server: Server) -> None:
    value = object()
    async with gateway_on(server.port) as gateway:
        cache = gateway.cache("chat")
        assert await cache.get_or_compute(REQUEST, Model(value)) is value
        assert gateway.figures()["cache{category=chat,result=not_encoded}"] == 1
        assert await free(cache, REQUEST)
        with pytest.raises(TypeError):
            await cache.set(REQUEST, value)


async def test_a_lease_is_given_up_when_the_server_is_back(server: Server) -> None:
    settings = dataclasses.replace(PATIENT, kept=Kept(every=0.05))
    async with gateway_on(server.port, settings) as gateway:
        own, away = gateway._core.transport.call, [True, True]

        async def call(request: Any) -> Any:
            if request.args[0] == "GW.CACHERELEASE" and away:
                away.pop()
                raise Unavailable("connection", sent=False)
            return await own(request)

        gateway._core.transport.call = call
        cache = gateway.cache("chat")
        with pytest.raises(ValueError):
            await cache.get_or_compute(REQUEST, Model(failures=1))
        await until(lambda: free(cache, REQUEST))


async def test_get_is_a_miss_if_the_server_refuses(server: Server) -> None:
    async with gateway_on(server.port) as gateway:
        cache = gateway.cache("chat")
        server.run(f"SET {cache.key(REQUEST)} other")
        assert await cache.get(REQUEST, "default") == "default"
        assert gateway.figures()["cache{category=chat,result=error}"] == 1
