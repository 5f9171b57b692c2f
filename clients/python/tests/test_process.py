"""What happens when the process is forked, or ends before its gateway is closed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from redis_gateway import AsyncGateway, Gateway, Kept, Settings
from redis_gateway.deliveries import Delivery
from redis_gateway.testing import FakeRedis
from servers import Server

QUIET = Settings(timeout=10, connect_timeout=10, kept=Kept(every=3600))


def in_child(gateway: Any, work: Any) -> Any:
    """Runs it in a forked process, and returns what it returns."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        found = pipe.read()
    os.waitpid(child, 0)
    assert found, "the child has failed"
    return json.loads(found)


def test_a_fork_takes_nothing_along(tmp_path: Path) -> None:
    settings = Settings(timeout=10, connect_timeout=10, kept=Kept(every=0.02, directory=tmp_path))
    with Gateway(FakeRedis(), settings) as gateway:
        logs = gateway.logs("q", every=0.02)
        admission = gateway.admit("k", {"usd": "1"})
        gateway._core.kept.add(Delivery(["GW.ADDCOST", "l", "1", "ID", "1"]))
        logs._running = True
        logs.push({"id": "the parent's"})
        locks: list[Any] = [gateway._core._mutex, gateway._core.kept._lock, gateway.telemetry._lock, logs._mutex]
        locks.append(logs._turn._places)

        def work() -> list[Any]:
            before = [gateway.kept, len(logs), len(gateway._core.living)]
            logs.push({"id": "the child's"})
            end = time.monotonic() + 10
            while len(logs) and time.monotonic() < end:
                time.sleep(0.01)
            ended = admission.settle(usd=9)
            with gateway.admit("k", {"usd": "1"}) as own:
                pass
            return [before, len(logs), ended, own.settlement.outcome, gateway.budgets.charge("c", 1).outcome]

        # The locks are held at the fork, by what stands for another thread.
        for lock in locks:
            lock.__enter__()
        try:
            found = in_child(gateway, work)
        finally:
            for lock in locks:
                lock.__exit__(None, None, None)
        assert found == [[0, 0, 0], 0, None, "charged", "settled"]
        assert (gateway.kept, len(logs), admission.settlement) == (1, 1, None)
        logs._running = False


def left(entered: Any) -> None:
    """Ends a block that this process has not entered, as a child does that returns out of it."""
    ended = entered.__aexit__(None, None, None) if hasattr(entered, "__aexit__") else entered.__exit__(None, None, None)
    if asyncio.iscoroutine(ended):
        # There is no event loop in a child, and nothing to wait for.
        with contextlib.suppress(StopIteration):
            ended.send(None)


def test_a_child_that_leaves_a_block_ends_nothing(server: Server) -> None:
    """It returns out of the blocks that its parent was in when it forked."""
    for account in "at":
        server.run(f"GW.POLICYSET {account} parallel INFLIGHT 9")
    locked = contextlib.ExitStack()
    with Gateway(redis.Redis(port=server.port), QUIET) as gateway, locked:
        blocks: list[Any] = [
            gateway.slot("s", 1),
            gateway.lock("l"),
            gateway.budgets.reserve("h", 1, [(10, "MONTH")]),
            gateway.admit("a", {"usd": 1}),
            gateway.route(["a"], {"usd": 1}),
            gateway.request(["a"], ["t"], {"usd": 1}),
        ]
        attempts = blocks[-1].attempts()
        blocks.append(next(attempts))
        assert all(block.ok for block in blocks)
        stream = blocks[3].stream(iter([{"usd": 5}] * 3), lambda piece: piece)
        next(stream)
        # The locks are held at the fork, by what stands for another thread.
        for block in blocks:
            locked.enter_context(getattr(block, "_mutex", contextlib.nullcontext()))

        def work() -> bool:
            stream.close()
            for block in reversed(blocks):
                left(block)
                del block
            blocks.clear()
            gc.collect()
            gateway.send_kept()
            gateway.close()
            return True

        assert in_child(gateway, work)
        held = {key: str(server.run(f"GW.DESCRIBE {key}")) for key in "at"}
        assert "'in_flight', 3" in held["a"] and "'in_flight', 1" in held["t"]
        assert server.run("GW.ACQUIRE l 1 x TTL 1")[0] == server.run("GW.ACQUIRE s 1 x TTL 1")[0] == 0  # type: ignore[index]
        assert server.run("GW.WITHINBUDGET h 10")[4] == "1"  # type: ignore[index]
        locked.close()
        stream.close()
        for block in reversed(blocks):
            left(block)
        assert (server.run("GW.SPENT a"), server.run("GW.SPENT h")) == ("7", "1")


def test_a_child_that_leaves_a_block_of_a_task_ends_nothing(server: Server) -> None:
    async def main() -> None:
        async with AsyncGateway(redis.asyncio.Redis(port=server.port), QUIET) as gateway:
            blocks: list[Any] = [
                await gateway.lock("l"),
                await gateway.budgets.reserve("h", 1, [(10, "MONTH")]),
                await gateway.admit("a", {"usd": 1}),
            ]
            assert in_child(gateway, lambda: [left(block) for block in blocks])
            for block in blocks:
                await block.__aexit__(None, None, None)
        assert (server.run("GW.SPENT a"), server.run("GW.SPENT h")) == ("1", "1")

    asyncio.run(main())


@pytest.mark.parametrize("fails", [False, True])
def test_a_child_that_leaves_a_computation_ends_nothing(server: Server, fails: bool) -> None:
    """Neither with an answer nor with an error: the fill lease is the parent's."""
    parent = os.getpid()

    def compute() -> str:
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return "the parent's"
        if fails:
            raise ZeroDivisionError
        return "the child's"

    with Gateway(redis.Redis(port=server.port), QUIET) as gateway:
        cache = gateway.cache("chat")
        try:
            answer = cache.get_or_compute({"a": 1}, compute)
        finally:
            if os.getpid() != parent:
                os._exit(0)
        assert answer == cache.get({"a": 1}) == "the parent's"
        assert "cache{result=not_stored}" not in gateway.figures()


def test_a_computation_is_not_waited_for_in_a_child() -> None:
    with Gateway(FakeRedis(), QUIET) as gateway:
        cache = gateway.cache("chat")

        def compute() -> Any:
            # The child is forked while this key is computed here.
            return in_child(gateway, lambda: cache.get_or_compute({"of": "the child"}, lambda: len(cache._flights)))

        with cache._mutex:
            assert in_child(gateway, lambda: cache.get_or_compute({"a": 1}, lambda: 7)) == 7
        assert cache.get_or_compute({"a": 1}, compute) == 1


def test_a_child_does_not_hold_the_parents_file(tmp_path: Path) -> None:
    program = """
import os, sys, time
from redis_gateway import Gateway, Kept, Settings
from redis_gateway.deliveries import Delivery
from redis_gateway.testing import FakeRedis
gateway = Gateway(FakeRedis(), Settings(kept=Kept(directory=sys.argv[1])))
gateway._core.kept.add(Delivery(["GW.ADDCOST", "l", "1", "ID", "1"]))
child = os.fork()
if child == 0:
    os.close(1)
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
os._exit(0)
"""
    ended = run(program, str(tmp_path))
    try:
        with Gateway(FakeRedis(), Settings(kept=Kept(every=0.02, directory=tmp_path))) as gateway:
            gateway.send_kept()
            assert str(gateway.budgets.spent("l")) == "1"
    finally:
        os.kill(int(ended), 9)


def run(program: str, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, "-c", program, *words], env=environment, stdout=subprocess.PIPE, timeout=60, check=True
    )
    return ended.stdout.decode()


def test_the_end_of_the_loop_keeps_what_is_under_way() -> None:
    found: list[Any] = []

    class Slow:
        def __init__(self, real: Any) -> None:
            self.circuit, self.address = real.circuit, real.address

        async def ask(self, commands: Any, *, waiting: bool = False) -> Any:
            await asyncio.sleep(3600)

        async def aclose(self) -> None: ...

    async def main() -> None:
        gateway = AsyncGateway(FakeRedis(), QUIET)
        admission = await gateway.admit(["k"], {"usd": "1"})
        gateway._core.transport._alone = Slow(gateway._core.transport._alone)  # type: ignore[assignment]
        task = asyncio.create_task(admission.settle())
        found.extend([gateway, admission, task])
        await asyncio.sleep(0.02)

    asyncio.run(main())
    (kept,) = found[0]._core.kept.first(9)
    assert kept.words[0] == "GW.SETTLE" and kept.first_sent is not None
    asyncio.run(found[0]._close_at_exit())
    assert found[0].kept == 0


def test_a_settlement_that_is_interrupted_keeps_the_others() -> None:
    gateway = Gateway(FakeRedis(), QUIET)

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    run_before, gateway._core.run = gateway._core.run, interrupted  # type: ignore[method-assign]
    with contextlib.suppress(KeyboardInterrupt):
        gateway._core.deliver_all([Delivery(["GW.ADDCOST", "l", "1", "ID", str(at)]) for at in range(3)])
    assert gateway.kept == 3
    gateway._core.run = run_before  # type: ignore[method-assign]
    gateway.close()
    assert gateway.kept == 0


def test_a_program_that_ends_sends_what_it_has(own_server: Server) -> None:
    ends = """
import asyncio, sys
import redis, redis.asyncio
from redis_gateway import AsyncGateway, Gateway, Settings
settings = Settings(timeout=10, connect_timeout=10)
gateway = Gateway(redis.Redis(host="127.0.0.1", port=int(sys.argv[1])), settings)
admission = gateway.admit("a", {"usd": "1"})
admission.use(usd="0.25")
gateway.logs("q", every=3600).push({"id": 1})

async def main():
    other = AsyncGateway(redis.asyncio.Redis(host="127.0.0.1", port=int(sys.argv[1])), settings)
    one = await other.admit("a", {"usd": "1"})
    one.use(usd="0.5")
    return other, one

left = asyncio.run(main())
"""
    own_server.run("GW.POLICYSET a month BUDGET 100 MONTH")
    run(ends, str(own_server.port))
    assert own_server.run("GW.SPENT a") == "0.75"
    assert own_server.run("GW.LOGLEN q") == 1
