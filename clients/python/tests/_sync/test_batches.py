# Generated from ../_async/test_batches.py by tools/unasync.py. Do not edit.
"""Batches of a queue, for whoever works on them."""

from __future__ import annotations

from typing import Any

import pytest

from redis_gateway import Kept, Settings, Unavailable
from servers import Server

from ._runtime import PATIENT, gateway_on, sleep, together, until


class Interrupted(BaseException):
    """Stands for KeyboardInterrupt, which would end the event loop of the tests."""


def test_acknowledged_or_given_back(server: Server) -> None:
    with gateway_on(server.port) as gateway:
        gateway.commands.log_push("q", ["a", "b", "c"])
        with gateway.lease("q", count=2) as batch:
            assert batch.ok and not batch.lost
            assert (batch.records, batch.delivery) == ((b"a", b"b"), 1)
        assert not batch.acknowledge()
        for delivery in (1, 2):
            with pytest.raises(ZeroDivisionError):
                with gateway.lease("q", wait=20, retry_after=0.01, max_deliveries=2) as batch:
                    assert (batch.records, batch.delivery) == ((b"c",), delivery)
                    raise ZeroDivisionError
        with gateway.lease("q") as batch:
            assert (batch.ok, batch.records, batch.delivery, batch.lost) == (False, (), 0, False)
        assert not batch.acknowledge() and not batch.give_back()
        assert [letter.records for letter in gateway.commands.log_dead_list("q")] == [(b"c",)]
        assert gateway.commands.log_len("q") == 0


def test_waits_for_records(server: Server) -> None:
    """Also for longer than a call of the server may wait."""
    settings = Settings(timeout=10, connect_timeout=10, waiting_timeout=2)
    with gateway_on(server.port, settings) as gateway:

        def push() -> None:
            sleep(2.5)
            gateway.commands.log_push("q", ["a"])

        batch, _ = together(lambda: gateway.lease("q", ttl=30, wait=60), push)
        assert batch.records == (b"a",) and batch.acknowledge()


def test_a_lease_is_renewed_while_the_work_goes_on(server: Server) -> None:
    with gateway_on(server.port) as gateway:
        gateway.commands.log_push("q", ["a"])
        with gateway.lease("q", ttl=3) as batch:
            first = batch._live_until
            until(lambda: batch._live_until > first + 3)
            assert not (gateway.lease("q")).ok and not batch.lost
        assert (gateway.commands.log_stats("q")).acked == 1


def test_a_lost_batch_leaves_that_of_another_alone(server: Server) -> None:
    with gateway_on(server.port) as gateway:
        gateway.commands.log_push("q", ["a"])
        slow = gateway.lease("q", ttl=1)
        # As if its lease had ended, and another program had got the records.
        gateway.commands.log_nack("q", slow.batch_id)
        other = gateway.lease("q", ttl=60)
        assert (other.batch_id, other.delivery) == (slow.batch_id, 2)
        until(lambda: slow.lost)
        until(lambda: gateway.figures().get("batches_lost") == 1)
        assert not slow.acknowledge()
        assert other.give_back(0)
        third = gateway.lease("q", wait=20)
        assert third.delivery == 3 and third.acknowledge()


def test_an_acknowledgement_is_sent_later(own_server: Server) -> None:
    settings = Settings(timeout=0.3, connect_timeout=0.3, kept=Kept(every=3600))
    with gateway_on(own_server.port) as patient, gateway_on(own_server.port, settings) as gateway:
        patient.commands.log_push("q", ["a"])
        batch: Any = None
        while batch is None or not batch.ok:  # Its answer may be late on a busy machine.
            try:
                batch = gateway.lease("q", ttl=600)
            except Unavailable:
                own_server.run("DEL q")
                patient.commands.log_push("q", ["a"])
        with own_server.frozen():
            assert batch.acknowledge() and gateway.kept == 1
            with pytest.raises(Unavailable):
                gateway.lease("q")
        until(lambda: sent(gateway))
        assert (patient.commands.log_stats("q")).acked == 1


def sent(gateway: Any) -> bool:
    gateway.send_kept()
    return bool(gateway.kept == 0)


def test_records_of_who_has_left_are_given_back(server: Server) -> None:
    """The program ends its wait in the moment in which they come."""
    with gateway_on(server.port, PATIENT) as gateway:
        gateway.commands.log_push("q", ["a"])
        own = gateway._batches._ask

        def interrupted(*args: Any) -> None:
            own(*args)
            raise Interrupted

        gateway._batches._ask = interrupted
        with pytest.raises(Interrupted):
            gateway.lease("q", ttl=3600)
        gateway._batches._ask = own
        batch = gateway.lease("q", wait=20)
        assert (batch.records, batch.delivery) == ((b"a",), 2) and batch.acknowledge()
