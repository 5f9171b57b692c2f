from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The private servers of the Python client's tests.
sys.path.append(str(Path(__file__).resolve().parents[2] / "python" / "tests"))

from proxies import Stack
from servers import missing


@pytest.fixture(scope="session")
def shared_stack() -> Iterator[Stack]:
    if missing():
        pytest.skip(str(missing()))
    stack = Stack(redis_gateway={"unreported_after": 1.0, "log_queue": "log:litellm"})
    yield stack
    stack.close()


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    """One proxy, and a server without data. It is shared: tests that stop something start their own."""
    shared_stack.reset()
    shared_stack.server.run("FLUSHALL")
    return shared_stack


@pytest.fixture(scope="session")
def open_stack() -> Iterator[Stack]:
    """One proxy that lets pass while the server is away, and breaks off calls whose clients have left."""
    if missing():
        pytest.skip(str(missing()))
    stack = Stack(
        redis_gateway={"away": "open", "unreported_after": 1.0}, general_settings={"cancel_on_disconnect": True}
    )
    yield stack
    stack.close()
