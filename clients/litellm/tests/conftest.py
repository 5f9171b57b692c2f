from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

# The private servers of the Python client's tests.
sys.path.append(str(Path(__file__).resolve().parents[2] / "python" / "tests"))

from proxies import Stack, eventually
from servers import missing


@pytest.fixture(scope="session")
def shared_stack() -> Iterator[Stack]:
    if missing():
        pytest.skip(str(missing()))
    settings = {
        # Longer than the proxy may be too busy to read what the server has answered: no limit is kept locally here.
        "timeout": 5.0,
        "log_queue": "log:litellm",
        "cache": True,
    }
    litellm = {
        "callbacks": ["redis_gateway_litellm.gateway", "plugin.refuses", "prometheus"],
        # Only answers to requests that say so are cached.
        "cache": True,
        "cache_params": {"type": "local", "ttl": 600, "mode": "default_off"},
    }
    stack = Stack(replicas=2, redis_gateway=settings, litellm_settings=litellm)
    # The first request of a replica puts the cache in its place.
    headers = {"Authorization": f"Bearer {stack.key('first')}"}
    for url in stack.urls:
        body = {"model": "embed", "input": "x"}
        httpx.post(f"{url}/v1/embeddings", json=body, headers=headers, timeout=60).raise_for_status()
    yield stack
    stack.close()


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    """Two replicas, and a server without data. They are shared: tests that stop something use another."""
    shared_stack.reset()
    shared_stack.server.run("FLUSHALL")
    return shared_stack


@pytest.fixture(scope="session")
def shared_lone_stack() -> Iterator[Stack]:
    if missing():
        pytest.skip(str(missing()))
    litellm = {"callbacks": ["plugin.gateway", "plugin.refuses"]}
    stack = Stack(litellm_settings=litellm, general_settings={"cancel_on_disconnect": True})
    yield stack
    stack.close()


@pytest.fixture
def lone_stack(shared_lone_stack: Stack) -> Stack:
    """One proxy with the settings as they are shipped, whose callback is of a subclass, which breaks off calls whose
    clients have left. Its server may be stopped."""
    one = shared_lone_stack
    one.release()
    # The accounts of the test before.
    one.server.run("FLUSHALL")
    # After a test whose server was away the proxy limits by itself, until it has found that the server is back.
    key = one.key("again")
    eventually(lambda: one.chat(key).status_code == 200 and "key" in one.accounts())
    one.settled()
    one.reset()
    one.server.run("FLUSHALL")
    return one
