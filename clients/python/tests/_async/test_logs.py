"""The log buffer: nobody waits for it, it takes what its bounds allow, and pushes each record once."""

from __future__ import annotations

import json
import time
from typing import Any

from redis_gateway import Settings, Unavailable
from servers import Server

from ._runtime import gateway_on, sleep, together, until


def queued(server: Server, key: str = "log") -> list[Any]:
    found = server.run(f"GW.LOGPEEK {key} COUNT 10000")
    assert isinstance(found, list)
    return [json.loads(record) for record in found]


async def test_pushed_in_batches_in_the_background(server: Server) -> None:
    server.run("CONFIG RESETSTAT")
    async with gateway_on(server.port) as gateway:
        logs = gateway.logs("log", batch=10, every=0.05)
        for at in range(100):
            logs.push({"id": at, "text": "ü"})
        logs.push('{"id":100}')
        logs.push(b'{"id":101}')
        await until(lambda: len(logs) == 0)
        assert [record["id"] for record in queued(server)] == list(range(102))
        stats = server.run("INFO commandstats")
        assert isinstance(stats, dict)
        assert stats["cmdstat_gw.logpush"]["calls"] == 11
        assert logs.dropped == 0


async def test_pushed_at_the_end(server: Server) -> None:
    async with gateway_on(server.port) as gateway:
        logs = gateway.logs("log", every=3600)
        logs.push({"id": 1})
    assert queued(server) == [{"id": 1}]


async def test_bounds_drop_the_oldest_and_count_them(own_server: Server) -> None:
    own_server.stop()
    async with gateway_on(own_server.port) as gateway:
        logs = gateway.logs("log", records=10, batch=1000, every=3600)
        for at in range(25):
            logs.push({"id": at})
        assert (len(logs), logs.dropped) == (10, 15)
        small = gateway.logs("log", size=100, batch=1000, every=3600)
        for at in range(25):
            small.push({"id": at})
        assert len(small) <= 11 and small.dropped == 25 - len(small)
        assert gateway.figures()["log_dropped{reason=buffer_full}"] == logs.dropped + small.dropped
        own_server.start()
        await together(logs.flush, logs.flush)
        await logs.flush()
        assert [record["id"] for record in queued(own_server)] == list(range(15, 25))


async def test_a_push_whose_reply_is_lost_is_stored_once(own_server: Server) -> None:
    async with gateway_on(own_server.port, Settings(pause=0.05)) as gateway:
        logs = gateway.logs("log", every=0.05)
        with own_server.frozen():
            logs.push({"id": 1})
            assert not await logs.flush()
            assert len(logs) == 1
        await until(lambda: len(logs) == 0)
        assert queued(own_server) == [{"id": 1}] and logs.dropped == 0


async def test_a_record_that_cannot_be_stored_does_not_hold_up_the_others(server: Server) -> None:
    async with gateway_on(server.port) as gateway:
        logs = gateway.logs("log", every=3600)
        for record in (b'{"id":1}', b"not json", b'{"id":2}'):
            logs.push(record)
        assert await logs.flush()
        assert [record["id"] for record in queued(server)] == [1, 2]
        assert logs.dropped == 1


async def test_a_full_queue(server: Server) -> None:
    server.run("CONFIG SET gw.log-max-records 2")
    try:
        async with gateway_on(server.port) as gateway:
            rejecting = gateway.logs("log", every=3600, reject=True)
            dropping = gateway.logs("log", every=3600)
            for at in range(3):
                rejecting.push({"id": at})
            assert not await rejecting.flush() and len(rejecting) == 3
            for at in range(3):
                dropping.push({"id": at})
            assert await dropping.flush()
            assert dropping.dropped == 1 and [record["id"] for record in queued(server)] == [1, 2]
            server.run("CONFIG SET gw.log-max-records 100")
            assert await rejecting.flush()
            assert len(queued(server)) == 5
    finally:
        server.run("CONFIG SET gw.log-max-records 1000000")


class Lossy:
    """A transport that sends a command, but loses the reply of some calls: those whose number is in `lost`."""

    def __init__(self, transport: Any, *lost: int) -> None:
        self.transport = transport
        self.lost = lost
        self.calls = 0

    async def call(self, request: Any) -> Any:
        self.calls += 1
        call = self.calls
        reply = await self.transport.call(request)
        if call in self.lost:
            raise Unavailable("timeout", sent=True)
        return reply

    async def aclose(self) -> None:
        await self.transport.aclose()


async def test_records_that_are_pushed_one_by_one_are_stored_once(server: Server) -> None:
    """The batch is refused, and then the reply to one of its records is lost."""
    async with gateway_on(server.port) as gateway:
        lossy = gateway._core.background = Lossy(gateway._core.background, 3, 5)
        logs = gateway.logs("log", every=3600)
        logs._running = True  # Nothing runs in the background.
        for record in (b"not json", *(b'{"id":%d}' % at for at in range(4))):
            logs.push(record)
        assert [await logs.flush() for _ in range(3)] == [False, False, True]
        assert [record["id"] for record in queued(server)] == [0, 1, 2, 3]
        assert logs.dropped == 1 and lossy.calls == 1 + 5 + 2


async def test_flush_waits_for_the_one_that_runs(own_server: Server) -> None:
    async with gateway_on(own_server.port) as gateway:
        logs = gateway.logs("log", batch=1, every=3600)
        for at in range(50):
            logs.push({"id": at})
        assert await together(logs.flush, logs.flush, logs.flush) == [True] * 3
        assert len(logs) == 0 and [record["id"] for record in queued(own_server)] == list(range(50))


async def test_a_record_after_the_end_is_counted(server: Server) -> None:
    async with gateway_on(server.port) as gateway:
        logs = gateway.logs("log")
        await logs.aclose()
        logs.push({"id": 1})
        assert (len(logs), logs.dropped) == (0, 1)
        assert gateway.figures()["log_dropped{reason=closed}"] == 1
    assert queued(server) == []


async def test_batches_are_bounded_in_bytes(server: Server) -> None:
    server.run("CONFIG RESETSTAT")
    async with gateway_on(server.port) as gateway:
        logs = gateway.logs("log", every=3600)
        logs._running = True
        for size in (200_000, 200_000, 200_000, 700_000, 10):
            logs.push({"text": "x" * size})
        assert await logs.flush() and logs.dropped == 0
    assert server.run("GW.LOGLEN log") == 5
    stats = server.run("INFO commandstats")
    assert isinstance(stats, dict) and stats["cmdstat_gw.logpush"]["calls"] == 4


async def test_pushes_have_a_timeout_and_connections_of_their_own(own_server: Server) -> None:
    """A large batch may take longer than a decision, and how it goes says nothing about decisions."""
    async with gateway_on(own_server.port, Settings(timeout=0.05, connect_timeout=5, failures=1)) as gateway:
        logs = gateway.logs("log", every=3600)
        logs.push({"id": 1})
        own_server.freeze()

        async def thaw() -> None:
            await sleep(0.5)
            own_server.thaw()

        assert (await together(logs.flush, thaw))[0] is True
        own_server.stop()
        logs.push({"id": 2})
        assert not await logs.flush()
        assert not any(server.circuit.is_open for server in gateway._core.transport.servers())


async def test_a_server_that_does_not_answer_holds_up_the_end_once(own_server: Server) -> None:
    """However many log buffers there are, and although settlements are kept, too."""
    async with gateway_on(own_server.port, Settings(connect_timeout=5)) as gateway:
        logs = [gateway.logs(f"log{at}", every=3600) for at in range(8)]
        await gateway.health()
        for one in logs:
            one.push({"id": 1})
        with own_server.frozen():
            assert (await gateway.budgets.charge("l", 1)).outcome == "kept"
            started = time.monotonic()
            await gateway.aclose(2)
            # Two seconds, two more of a call that is under way, and what a busy machine adds. One after another would
            # take sixteen at least.
            assert time.monotonic() - started < 10
        assert gateway.kept == 1
        await until(lambda: [one.dropped for one in logs] == [1] * 8)


async def test_records_wait_for_a_right_that_is_missing(own_server: Server) -> None:
    own_server.run("ACL SETUSER default -gw.logpush")
    async with gateway_on(own_server.port) as gateway:
        logs = gateway.logs("log", every=3600)
        logs.push({"id": 1})
        assert not await logs.flush() and (len(logs), logs.dropped) == (1, 0)
        own_server.run("ACL SETUSER default +gw.logpush")
        assert await logs.flush()
        assert queued(own_server) == [{"id": 1}]
