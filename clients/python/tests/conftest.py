from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator

import pytest

from servers import Server, missing


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    if missing():
        pytest.skip(str(missing()))
    server = Server()
    yield server
    server.close()


@pytest.fixture
def server(shared_server: Server) -> Server:
    """A server without data. It is shared: tests that stop it start one of their own."""
    shared_server.run("FLUSHALL")
    return shared_server


@pytest.fixture
def own_server() -> Iterator[Server]:
    if missing():
        pytest.skip(str(missing()))
    server = Server()
    yield server
    server.close()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a test that is a coroutine function in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
