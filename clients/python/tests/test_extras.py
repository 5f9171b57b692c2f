"""The ASGI middleware, embeddings, and LangChain's adapters."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

from _async._runtime import gateway_on
from redis_gateway import Gateway, Settings
from redis_gateway.asgi import SCOPE_KEY, AdmissionMiddleware
from servers import Server

PATIENT = Settings(timeout=5, connect_timeout=5)


async def call(app: Any, path: str = "/chat", leaves: bool = False) -> tuple[int, dict[str, str], bytes]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)
        if leaves and message["type"] == "http.response.body":
            raise OSError("the client has left")

    await app({"type": "http", "path": path, "headers": []}, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message["body"] for message in sent[1:])


async def application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
    if SCOPE_KEY in scope:
        scope[SCOPE_KEY].use(usd="0.25")
    if scope["path"] == "/raises":
        raise ValueError
    await send({"type": "http.response.body", "body": b"answer"})


def accounts_of(scope: Any) -> list[str] | None:
    return None if scope["path"] == "/health" else ["a"]


def in_flight(server: Server) -> int:
    flat = server.run("GW.DESCRIBE a")
    assert isinstance(flat, list)
    return int(flat[flat.index("in_flight") + 1])


async def test_asgi_admits_and_settles(server: Server) -> None:
    server.run("GW.POLICYSET a rpm WINDOW 3 PER 60000")
    server.run("GW.POLICYSET a parallel INFLIGHT 3")
    async with gateway_on(server.port) as gateway:
        app = AdmissionMiddleware(application, gateway, accounts_of, lambda scope: {"usd": 1})
        status, headers, body = await call(app)
        assert (status, headers["x-own"], headers["x-ratelimit-remaining-requests"], body) == (200, "1", "2", b"answer")
        with pytest.raises(ValueError):
            await call(app, "/raises")
        with pytest.raises(OSError):
            await call(app, leaves=True)
        assert in_flight(server) == 0 and server.run("GW.SPENT a") == "0.75"
        status, headers, body = await call(app)
        assert status == 429 and int(headers["retry-after"]) > 0 and b'"type": "limit"' in body
        assert (await call(app, "/health"))[0] == 200

        async def lifespan(scope: Any, receive: Any, send: Any) -> None:
            assert scope["type"] == "lifespan"

        await AdmissionMiddleware(lifespan, gateway, accounts_of)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]


def test_embeddings(server: Server) -> None:
    numpy = pytest.importorskip("numpy")
    from redis_gateway.vectors import from_bytes, to_bytes

    assert to_bytes([1.0, -2.5]) == b"\x00\x00\x80\x3f\x00\x00\x20\xc0"
    with pytest.raises(ValueError):
        to_bytes([[1.0]])
    with Gateway(redis.Redis(port=server.port), PATIENT) as gateway:
        cache = gateway.cache("embed", encode=to_bytes, decode=from_bytes)
        for _ in range(2):
            vector = cache.get_or_compute({"text": "hi"}, lambda: numpy.array([0.5, 1.5], dtype="float32"))
            assert vector.tolist() == [0.5, 1.5]


@pytest.mark.filterwarnings("ignore")
def test_langchain(server: Server) -> None:
    pytest.importorskip("langchain_core")
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGeneration, Generation

    from redis_gateway.langchain import GatewayCache, GatewayRateLimiter

    answers = [ChatGeneration(message=AIMessage("Hello ü")), Generation(text="Hi")]
    with Gateway(redis.Redis(port=server.port), PATIENT) as gateway:
        limiter = GatewayRateLimiter("k", 600, 1, gateway=gateway)
        assert limiter.acquire() and not limiter.acquire(blocking=False) and limiter.acquire()
        cache = GatewayCache(gateway=gateway, tenant="ml")
        assert cache.lookup("prompt", "model") is None
        cache.update("prompt", "model", answers)
        assert cache.lookup("prompt", "model") == answers and cache.lookup("prompt", "other") is None
        cache.clear()
        assert cache.lookup("prompt", "model") is None

    async def asynchronous() -> None:
        async with gateway_on(server.port) as gateway:
            limiter = GatewayRateLimiter("l", 600, 1, async_gateway=gateway)
            assert await limiter.aacquire() and not await limiter.aacquire(blocking=False) and await limiter.aacquire()
            cache = GatewayCache(async_gateway=gateway)
            await cache.aupdate("prompt", "model", answers)
            assert await cache.alookup("prompt", "model") == answers
            await cache.aclear()
            assert await cache.alookup("prompt", "model") is None

    asyncio.run(asynchronous())
