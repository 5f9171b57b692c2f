"""A request waits for a server that does not answer once: then it decides all by itself, and asks nothing more. Without
a proxy."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import litellm
import pytest
from litellm import Router
from litellm.caching.caching import Cache
from litellm.proxy import proxy_server
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.common_utils.proxy_rate_limit_error import ProxyRateLimitError

from redis_gateway_litellm import GatewayLogger, PluginSettings
from redis_gateway_litellm.calls import current_call

COMMAND = re.compile(rb"\$\d+\r\n(GW\.\w+)\r\n")


class Silent:
    """Accepts, and answers how a connection begins; of the module's commands only those of `replies`."""

    def __init__(self) -> None:
        self.port = 0
        self.heard: list[str] = []
        """The module's commands."""
        self.replies: dict[str, bytes] = {}
        self._clients: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        while data := await reader.read(65_536):
            names = [name.decode() for name in COMMAND.findall(data)]
            self.heard += names
            for name in names:
                writer.write(self.replies.get(name, b""))
            if not names:
                writer.write(b"+OK\r\n" * len(re.findall(rb"(?m)^\*\d+\r\n", data)))

    async def __aenter__(self) -> Silent:
        self._server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._clients:
            writer.close()


class Proxy:
    """What LiteLLM's proxy calls for one request after another, each in its task."""

    def __init__(self, server: Silent, **settings: Any) -> None:
        self.server = server
        self.plugin = GatewayLogger(
            PluginSettings(url=f"redis://127.0.0.1:{server.port}?protocol=2", routing="ROOM", cache=True, **settings)
        )
        self.auth = UserAPIKeyAuth(api_key="sk-1", rpm_limit=1)

    async def admit(self, model: str = "m") -> None:
        data = {"model": model, "litellm_call_id": "a", "messages": [{"role": "user", "content": "Hi"}]}
        await self.plugin.async_pre_call_hook(self.auth, None, data, "acompletion")

    async def attempt(self) -> Any:
        """A deployment, and the cache."""
        told = {"litellm_call_id": "a"}
        routing, cache = self.plugin.running.routing, self.plugin.running.cache
        assert routing is not None and cache is not None
        found = await routing.async_get_available_deployment("m", request_kwargs=told)
        await self.plugin.async_pre_call_deployment_hook(told, "acompletion")
        assert await cache.async_get_cache("k") is None
        return found

    async def fail(self) -> None:
        await self.plugin.async_post_call_failure_deployment_hook({"litellm_call_id": "a"}, OSError(), "acompletion")


def asked(work: Callable[[Proxy], Awaitable[None]], *, replies: dict[str, bytes] | None = None, **settings: Any) -> Any:
    """What a request has asked the server until its end."""

    async def main() -> list[str]:
        async with Silent() as server:
            server.replies = replies or {}
            proxy = Proxy(server, **settings)
            heard: list[str] = []

            async def request() -> None:
                await work(proxy)
                heard.extend(server.heard)

            await asyncio.create_task(request())
            await proxy.plugin.running.gateway.aclose(0.1)
            return heard

    return asyncio.run(main())


def without_settlements(heard: list[str]) -> list[str]:
    """No request waits for these."""
    return [name for name in heard if name != "GW.SETTLE"]


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = {"model": "openai/m", "api_key": "none"}
    one, two = ({"model_name": "m", "litellm_params": upstream, "model_info": {"id": name}} for name in "ab")
    monkeypatch.setattr(proxy_server, "llm_router", Router(model_list=[one, two]))
    monkeypatch.setattr(litellm, "cache", Cache())


async def served_after_a_retry(proxy: Proxy) -> None:
    await proxy.admit()
    first = await proxy.attempt()
    await proxy.fail()
    second = await proxy.attempt()
    # The one that has failed comes last.
    assert {one["model_info"]["id"] for one in (first, second)} == {"a", "b"}


@pytest.mark.parametrize("known", [False, True])
def test_a_request_asks_a_silent_server_once(known: bool) -> None:
    """Also if it has to put the policies of its accounts and deployments, and after a failure of a provider."""
    replies = {"GW.POLICYPUT": b":1\r\n"} if known else {}
    heard = asked(served_after_a_retry, replies=replies)
    assert heard == (["GW.POLICYPUT", "GW.ADMIT"] if known else ["GW.POLICYPUT"])


@pytest.mark.parametrize(
    ("silent", "expected"),
    [
        ("GW.POLICYPUT", ["GW.POLICYPUT"]),
        # After the policies of two deployments.
        ("GW.ROUTE", ["GW.POLICYPUT", "GW.POLICYPUT", "GW.ROUTE"]),
    ],
)
def test_a_server_that_falls_silent_during_a_request_is_asked_once(silent: str, expected: list[str]) -> None:
    async def work(proxy: Proxy) -> None:
        await proxy.admit()
        call = current_call()
        assert call is not None and call.admission.outcome == "admitted" and call.away is None
        proxy.server.replies.pop(silent, None)
        proxy.server.heard.clear()
        await proxy.attempt()
        assert (call.away, call.attempts[0].outcome) == ("timeout", "degraded")
        await proxy.fail()
        # What may have been charged is given back meanwhile.
        assert call.attempts[0].settlement is None
        await proxy.attempt()

    replies = {"GW.POLICYPUT": b":1\r\n", "GW.ADMIT": b"*3\r\n:1\r\n:0\r\n*0\r\n"}
    heard = asked(work, replies=replies)
    assert without_settlements(heard) == expected


def test_a_request_that_is_refused_locally_for_one_model_does_not_ask_again_for_another() -> None:
    async def work(proxy: Proxy) -> None:
        # The first request has the only place of the minute.
        await asyncio.create_task(proxy.admit())
        proxy.server.heard.clear()
        for model in ("m", "another"):
            with pytest.raises(ProxyRateLimitError):
                await proxy.admit(model)

    assert without_settlements(asked(work, replies={"GW.POLICYPUT": b":1\r\n"})) == ["GW.ADMIT"]


def test_the_next_request_asks_again() -> None:
    async def work(proxy: Proxy) -> None:
        for _ in range(2):
            await asyncio.create_task(proxy.admit())

    heard = asked(work, replies={"GW.POLICYPUT": b":1\r\n"}, away="open")
    assert heard.count("GW.ADMIT") == 2
