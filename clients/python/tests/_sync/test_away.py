# Generated from ../_async/test_away.py by tools/unasync.py. Do not edit.
"""The server does not answer: what is decided meanwhile, and what arrives afterwards."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from redis_gateway import Gateway, Away, InvalidArgument, Kept, Local, Settings, Unavailable, WrongType
from redis_gateway.testing import FakeRedis
from servers import Server

from ._runtime import gateway_on, in_thread, sleep, together, until

OPEN = Away(limits="open", slots="open", budgets="open", admission="open")
CLOSED = Away(limits="closed", slots="closed", budgets="closed", admission="closed")
LOCAL = Away(limits="local", slots="local", admission=Local(requests=4, window=3600))


def shipped(away: Away, **changes: Any) -> Settings:
    """The settings as they are shipped, but for what is decided while the server is away."""
    return dataclasses.replace(Settings(away=away), **changes)


def longest(settings: Settings) -> float:
    """A decision takes no longer than this, and what a busy machine adds."""
    return settings.timeout + settings.connect_timeout + 0.5


def described(server: Server, key: str) -> dict[str, Any]:
    flat = server.run(f"GW.DESCRIBE {key}")
    assert isinstance(flat, list)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def test_decisions_while_it_is_dead(own_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    own_server.stop()
    caplog.set_level(logging.WARNING, "redis_gateway")
    for away, ok in ((OPEN, True), (CLOSED, False)):
        settings = shipped(away)
        with gateway_on(own_server.port, settings) as gateway:
            for _ in range(8):
                started = time.monotonic()
                decisions = [
                    gateway.allow("k", 1),
                    gateway.tokens("t", 1, 1),
                    gateway.budgets.within("b", [(10, "MONTH")]),
                    gateway.admit("a", {"usd": 1}),
                    gateway.route(["t1", "t2"], {"usd": 1}),
                    gateway.slot("s", 1),
                ]
                assert time.monotonic() - started < 6 * longest(settings)
                for decision in decisions:
                    assert decision.ok == ok and decision.outcome == ("degraded" if ok else "denied"), decision
                    assert decision.reason in ("connection", "circuit_open"), decision
            denied = gateway.admit("a", {"usd": 1})
            assert denied.status_code == (200 if ok else 503)
            assert ok or denied.headers()["Retry-After"] == "1"
            lock = gateway.lock("l")
            assert (lock.outcome, lock.ok) == ("denied", False)
            figures = gateway.figures()
            counted = sum(count for name, count in figures.items() if name.startswith("decisions{family=limits"))
            assert counted == 16
            assert not (gateway.health()).ok
    # Each gateway has said once that the server is away.
    assert sum("is away" in record.message for record in caplog.records) == 2


def test_whoever_knows_that_it_is_away_asks_nobody() -> None:
    for away, outcome in ((OPEN, "degraded"), (CLOSED, "denied")):
        fake = FakeRedis()
        with Gateway(fake, shipped(away)) as gateway:
            admission = gateway.admit("a", {"usd": 1}, away="timeout")
            attempt = gateway.route(["t1", "t2"], {"usd": 1}, away=admission.reason)
            assert (admission.outcome, admission.reason) == (attempt.outcome, attempt.reason) == (outcome, "timeout")
            assert not fake.calls
            attempt.settle(usd=2)
            admission.settle(usd=2)
            # It answers again: what was used is charged.
            charged = [(call[0], call[1]) for call in fake.calls]
            if away is OPEN:
                assert charged == [(b"GW.ADDCOST", attempt.target.encode()), (b"GW.ADDCOST", b"a")]
            else:
                assert not charged


def test_local_limits_are_a_share(own_server: Server) -> None:
    own_server.stop()
    with gateway_on(own_server.port, shipped(LOCAL, instances=2)) as gateway:
        allowed = [gateway.allow("k", 10, window=3600) for _ in range(8)]
        assert [decision.outcome for decision in allowed] == ["degraded"] * 5 + ["denied"] * 3
        assert allowed[-1].reason == "local_limit" and 0 < allowed[-1].retry_after_ms <= 3_700_000
        assert allowed[0].limit == 5
        admitted = [gateway.admit("a") for _ in range(3)]
        assert [(one.outcome, one.status_code) for one in admitted] == [("degraded", 200)] * 2 + [("denied", 429)]
        slots = [gateway.slot("s", 4) for _ in range(3)]
        assert [slot.outcome for slot in slots] == ["degraded", "degraded", "denied"]
        slots[0].release()
        assert (gateway.slot("s", 4)).outcome == "degraded"
        routed = [(gateway.route(["t1", "t2"])).target for _ in range(5)]
        assert routed == ["t1", "t1", "t2", "t2", ""]
        for admission in admitted:
            admission.undo()


def test_kept_charges_arrive_once(own_server: Server) -> None:
    own_server.run("GW.POLICYSET {a} month BUDGET 1000 MONTH")
    settings = shipped(OPEN, kept=Kept(every=0.05), pause=0.1)
    with gateway_on(own_server.port, settings) as gateway:
        before = gateway.admit("{a}", {"usd": 100})
        assert before.outcome == "admitted"
        hold = gateway.budgets.reserve("{a}", 50, [(1000, "MONTH")])
        own_server.run("SAVE")
        own_server.stop()
        assert (before.settle(usd="0.25")).outcome == "kept"
        assert (hold.commit("0.5")).outcome == "kept"
        for _ in range(10):
            with gateway.admit("{a}", {"usd": 100}) as admission:
                assert admission.outcome == "degraded"
                admission.use(usd="1")
            assert admission.settlement.outcome == "kept"
        assert (gateway.budgets.charge("{a}", "0.125")).outcome == "kept"
        assert gateway.kept == 13
        own_server.start()
        until(lambda: gateway.kept == 0)
        assert own_server.run("GW.SPENT {a}") == "10.875"
        assert gateway.figures()["kept"] == 13
        assert gateway.figures()["kept_sent"] == 13


def test_what_is_kept_is_sent_with_a_timeout_and_connections_of_its_own(own_server: Server) -> None:
    """A server that takes longer than a request may wait takes it all the same, while the circuit is open, too."""
    settings = shipped(OPEN, timeout=0.05, connect_timeout=5, failures=1, pause=3600, kept=Kept(every=3600))
    with gateway_on(own_server.port, settings) as gateway:
        gateway.send_kept()
        own_server.freeze()
        assert (gateway.budgets.charge("l", 1)).outcome == "kept"

        def thaw() -> None:
            sleep(0.5)
            own_server.thaw()

        assert (together(gateway.send_kept, thaw))[0] == 1
        assert own_server.run("GW.SPENT l") == "1"
        assert (gateway.allow("k", 1)).reason == "circuit_open"


def test_kept_charges_survive_the_process(own_server: Server, tmp_path: Path) -> None:
    settings = shipped(OPEN, kept=Kept(directory=tmp_path), pause=0.1)
    own_server.stop()
    with gateway_on(own_server.port, settings) as gateway:
        gateway.budgets.charge(b"l\xff".decode("utf-8", "surrogateescape"), "0.5")
        with gateway.admit("l") as admission:
            admission.use(usd=2)
    assert len(list(tmp_path.iterdir())) == 1
    own_server.start()
    with gateway_on(own_server.port, shipped(OPEN, kept=Kept(directory=tmp_path, every=0.05))) as gateway:
        (gateway.admit("other")).settle()
        until(lambda: gateway.kept == 0)
        assert own_server.run("GW.SPENT l") == "2"
        assert str(gateway.budgets.spent(b"l\xff".decode("utf-8", "surrogateescape"))) == "0.5"
    assert list(tmp_path.iterdir()) == []


def test_a_full_buffer_of_charges_counts_what_it_drops(own_server: Server) -> None:
    own_server.stop()
    with gateway_on(own_server.port, shipped(OPEN, kept=Kept(count=3))) as gateway:
        outcomes = [(gateway.budgets.charge("l", 1)).outcome for _ in range(5)]
        assert outcomes == ["kept"] * 3 + ["given_up"] * 2
        assert gateway.figures()["kept_dropped"] == 2


def test_a_pause_doubles_nothing(own_server: Server) -> None:
    """The server freezes for 0.6 s under load, with the shipped settings: charges, records and admissions are there
    once."""
    own_server.run("GW.POLICYSET {a} month BUDGET 1000000 MONTH")
    own_server.run("GW.POLICYSET {a} all WINDOW 1000000 PER 3600000")
    own_server.run("GW.POLICYSET {a} parallel INFLIGHT 1000")
    settings = shipped(OPEN, kept=Kept(every=0.2))
    served: list[str] = []
    with gateway_on(own_server.port, settings) as gateway:
        logs = gateway.logs("log", every=0.02)
        stop = False

        def worker(name: int) -> None:
            at = 0
            while not stop:
                at += 1
                with gateway.admit("{a}", {"usd": "5"}) as admission:
                    assert admission.ok
                    sleep(random.random() * 0.02)
                    admission.use(usd="0.01")
                served.append(admission.lease_id)
                logs.push({"id": admission.lease_id})
                gateway.budgets.charge("{a}:extra", "1", id=f"{name}:{at}")

        def pauses() -> None:
            nonlocal stop
            try:
                for _ in range(3):
                    sleep(0.3)
                    with own_server.frozen():
                        sleep(0.6)
                sleep(0.3)
            finally:
                stop = True

        failed = [one for one in together(pauses, *[lambda name=name: worker(name) for name in range(6)]) if one]
        assert not failed
        until(lambda: gateway.kept == 0 and len(logs) == 0)
        figures = gateway.figures()
        assert any(name.startswith("decisions{family=admission,outcome=degraded") for name in figures), figures
        assert float(str(own_server.run("GW.SPENT {a}"))) == pytest.approx(len(served) * 0.01)
        assert own_server.run("GW.SPENT {a}:extra") == str(len(served))
        records = own_server.run("GW.LOGPEEK log COUNT 10000")
        assert isinstance(records, list)
        assert sorted(json.loads(record)["id"] for record in records) == sorted(served)
        # No admission counts twice. One that was let through without the server does not count.
        counts = described(own_server, "{a}")["counts"]
        assert 0 < counts[counts.index("all") + 1] <= len(served)
    until(lambda: described(own_server, "{a}")["in_flight"] == 0)


def test_lost_connections_are_replaced(own_server: Server) -> None:
    with gateway_on(own_server.port, Settings(timeout=5, connect_timeout=5)) as gateway:
        for _ in range(3):
            assert (gateway.budgets.charge("l", 1)).outcome == "settled"
            own_server.run("CLIENT KILL TYPE normal SKIPME yes")
        # What cannot be repeated is not: but an idle connection is known to be closed before anything is sent on it.
        sleep(0.05)
        assert (gateway.allow("k", 5)).outcome == "admitted"
        assert own_server.run("GW.SPENT l") == "3"


def test_replies_that_say_that_it_cannot_serve(own_server: Server) -> None:
    with gateway_on(own_server.port, shipped(OPEN, timeout=5.0)) as gateway:
        own_server.run("CONFIG SET maxmemory 1")
        assert ((gateway.allow("k", 5)).outcome, (gateway.allow("k", 5)).reason) == ("degraded", "oom")
        with pytest.raises(Unavailable) as error:
            gateway.commands.allow("k", 5)
        assert (error.value.reason, error.value.sent, error.value.down) == ("oom", False, False)
        own_server.run("CONFIG SET maxmemory 0")
        own_server.run("REPLICAOF 127.0.0.1 1")
        assert (gateway.allow("k", 5)).reason == "readonly"
        own_server.run("REPLICAOF NO ONE")
        until(lambda: not gateway._core.transport.servers()[0].circuit.is_open)
        assert (gateway.allow("k", 5)).outcome == "admitted"


def test_decisions_while_it_accepts_and_never_replies(own_server: Server) -> None:
    settings = shipped(OPEN)
    with gateway_on(own_server.port, settings) as gateway:
        gateway.allow("warm", 1)
        with own_server.frozen():
            started = time.monotonic()
            decision = gateway.allow("k", 1)
            took = time.monotonic() - started
            assert (decision.outcome, decision.reason) == ("degraded", "timeout")
            assert settings.timeout * 0.9 < took < longest(settings)
            for _ in range(10):
                gateway.allow("k", 1)
            # The circuit is open: nobody waits any more.
            started = time.monotonic()
            assert (gateway.allow("k", 1)).reason == "circuit_open"
            assert time.monotonic() - started < 0.2


def test_who_comes_while_one_tries_has_its_outcome(own_server: Server) -> None:
    """When the server is back, nobody is let through without it because another call has not been answered yet."""
    settings = shipped(OPEN, pause=60.0, timeout=1.0, connect_timeout=1.0)
    with gateway_on(own_server.port, settings) as gateway:
        circuit = gateway._core.transport.servers()[0].circuit
        gateway.allow("warm", 1)

        def ask() -> Any:
            return gateway.allow("k", 10_000)

        with own_server.frozen():
            together(*[ask] * settings.failures)
            assert circuit.is_open
            circuit._retry_at = 0.0
            started = time.monotonic()
            found = together(*[ask] * 20)
            assert {decision.outcome for decision in found} == {"degraded"}
            assert time.monotonic() - started < settings.timeout + longest(settings)
            assert circuit.is_open
        circuit._retry_at = 0.0
        found = together(*[ask] * 20)
        assert {decision.outcome for decision in found} == {"admitted"}


def test_errors_of_the_call_are_no_absence(server: Server) -> None:
    server.run("SET k v")
    with gateway_on(server.port, Settings(timeout=5, connect_timeout=5, failures=2)) as gateway:
        for _ in range(5):
            with pytest.raises(WrongType):
                gateway.allow("k", 1)
            with pytest.raises(InvalidArgument):
                gateway.allow("l", -1)
        assert not gateway._core.transport.servers()[0].circuit.is_open
        assert (gateway.allow("m", 1)).outcome == "admitted"


def test_a_limiters_call_is_sent_once(own_server: Server) -> None:
    with gateway_on(own_server.port, shipped(OPEN, pause=0.05)) as gateway:
        gateway.allow("k", 10)
        with own_server.frozen():
            assert (gateway.allow("k", 10)).reason == "timeout"
        until(lambda: own_server.run("GW.ALLOW k 10 PEEK")[2] == 8)
        sleep(0.3)
        assert own_server.run("GW.ALLOW k 10 PEEK")[2] == 8


def test_what_a_killed_process_has_left_is_sent(own_server: Server, tmp_path: Path) -> None:
    own_server.stop()
    program = """
import os, signal, sys
import redis
from redis_gateway import Gateway, Kept, Settings
gateway = Gateway(redis.Redis(port=int(sys.argv[1])), Settings(kept=Kept(directory=sys.argv[2])))
for at in range(20):
    assert gateway.budgets.charge("l", 1, id=f"charge {at}").outcome == "kept"
os.kill(os.getpid(), signal.SIGKILL)
"""
    in_thread(
        lambda: subprocess.run(
            [sys.executable, "-c", program, str(own_server.port), str(tmp_path)], env=child_environment()
        )
    )
    assert len(list(tmp_path.iterdir())) == 1
    own_server.start()
    with gateway_on(own_server.port, shipped(OPEN, kept=Kept(directory=tmp_path, every=0.05))) as gateway:
        gateway.send_kept()
        (gateway.admit("other")).settle()
        until(lambda: own_server.run("GW.SPENT l") == "20")
        until(lambda: gateway.kept == 0)
    assert list(tmp_path.iterdir()) == []


def child_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
