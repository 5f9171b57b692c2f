"""Batches of a queue, for whoever works on them."""

from __future__ import annotations

from typing import Any

import pytest

from redis_gateway import Kept, Settings, Unavailable
from servers import Server

from ._runtime import PATIENT, gateway_on, sleep, together, until


class Interrupted(BaseException):
    """Stands for KeyboardInterrupt, which would end the event loop of the tests."""


async def test_acknowledged_or_given_back(server: Server) -> None:
    async with gateway_on(server.port) as gateway:
        await gateway.commands.log_push("q", ["a", "b", "c"])
        async with await gateway.lease("q", count=2) as batch:
            assert batch.ok and not batch.lost
            assert (batch.records, batch.delivery) == ((b"a", b"b"), 1)
        assert not await batch.acknowledge()
        for delivery in (1, 2):
            with pytest.raises(ZeroDivisionError):
                async with await gateway.lease("q", wait=20, retry_after=0.01, max_deliveries=2) as batch:
                    assert (batch.records, batch.delivery) == ((b"c",), delivery)
                    raise ZeroDivisionError
        async with await gateway.lease("q") as batch:
            assert (batch.ok, batch.records, batch.delivery, batch.lost) == (False, (), 0, False)
        assert not await batch.acknowledge() and not await batch.give_back()
        assert [letter.records for letter in await gateway.commands.log_dead_list("q")] == [(b"c",)]
        assert await gateway.commands.log_len("q") == 0


async def test_waits_for_records(server: Server) -> None:
    """Also for longer than a call of the server may wait."""
    settings = Settings(timeout=10, connect_timeout=10, waiting_timeout=2)
    async with gateway_on(server.port, settings) as gateway:

        async def push() -> None:
            await sleep(2.5)
            await gateway.commands.log_push("q", ["a"])

        batch, _ = await together(lambda: gateway.lease("q", ttl=30, wait=60), push)
        assert batch.records == (b"a",) and await batch.acknowledge()


async def test_a_lease_is_renewed_while_the_work_goes_on(server: Server) -> None:
    async with gateway_on(server.port) as gateway:
        await gateway.commands.log_push("q", ["a"])
        async with await gateway.lease("q", ttl=3) as batch:
            first = batch._live_until
            await until(lambda: batch._live_until > first + 3)
            assert not (await gateway.lease("q")).ok and not batch.lost
        assert (await gateway.commands.log_stats("q")).acked == 1


async def test_a_lost_batch_leaves_that_of_another_alone(server: Server) -> None:
    async with gateway_on(server.port) as gateway:
        await gateway.commands.log_push("q", ["a"])
        slow = await gateway.lease("q", ttl=1)
        # As if its lease had ended, and another program had got the records.
        await gateway.commands.log_nack("q", slow.batch_id)
        other = await gateway.lease("q", ttl=60)
        assert (other.batch_id, other.delivery) == (slow.batch_id, 2)
        await until(lambda: slow.lost)
        await until(lambda: gateway.figures().get("batches_lost") == 1)
        assert not await slow.acknowledge()
        assert await other.give_back(0)
        third = await gateway.lease("q", wait=20)
        assert third.delivery == 3 and await third.acknowledge()


async def test_an_acknowledgement_is_sent_later(own_server: Server) -> None:
    settings = Settings(timeout=0.3, connect_timeout=0.3, kept=Kept(every=3600))
    async with gateway_on(own_server.port) as patient, gateway_on(own_server.port, settings) as gateway:
        await patient.commands.log_push("q", ["a"])
        batch: Any = None
        while batch is None or not batch.ok:  # Its answer may be late on a busy machine.
            try:
                batch = await gateway.lease("q", ttl=600)
            except Unavailable:
                own_server.run("DEL q")
                await patient.commands.log_push("q", ["a"])
        with own_server.frozen():
            assert await batch.acknowledge() and gateway.kept == 1
            with pytest.raises(Unavailable):
                await gateway.lease("q")
        await until(lambda: sent(gateway))
        assert (await patient.commands.log_stats("q")).acked == 1


async def sent(gateway: Any) -> bool:
    await gateway.send_kept()
    return bool(gateway.kept == 0)


async def test_records_of_who_has_left_are_given_back(server: Server) -> None:
    """The program ends its wait in the moment in which they come."""
    async with gateway_on(server.port, PATIENT) as gateway:
        await gateway.commands.log_push("q", ["a"])
        own = gateway._batches._ask

        async def interrupted(*args: Any) -> None:
            await own(*args)
            raise Interrupted

        gateway._batches._ask = interrupted
        with pytest.raises(Interrupted):
            await gateway.lease("q", ttl=3600)
        gateway._batches._ask = own
        batch = await gateway.lease("q", wait=20)
        assert (batch.records, batch.delivery) == ((b"a",), 2) and await batch.acknowledge()
