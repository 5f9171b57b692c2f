"""The circuit, with a clock of the test's own."""

from __future__ import annotations

import logging
import random

import pytest

from redis_gateway.circuit import Circuit
from redis_gateway.local import LocalSlots, LocalWindows, share


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_opens_after_failures_in_a_row_and_lets_one_try(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    clock = Clock()
    circuit = Circuit("the server", 3, 1.0, clock, lambda: 0.5)
    for _ in range(2):
        circuit.failed("timeout")
    circuit.succeeded()
    for _ in range(3):
        assert circuit.may_ask()
        circuit.failed("timeout")
    assert circuit.is_open and not circuit.may_ask()
    clock.now = 0.99
    assert not circuit.may_ask()
    clock.now = 1.01
    assert circuit.may_ask() and not circuit.may_ask()  # One tries.
    circuit.failed("timeout")
    assert not circuit.may_ask()
    clock.now = 2.5
    assert circuit.may_ask()
    circuit.succeeded()
    assert circuit.may_ask() and circuit.may_ask() and not circuit.is_open
    assert [record.message for record in caplog.records] == [
        "the server is away (timeout): it is asked again from time to time",
        "the server answers again, after 2.5 s",
    ]
    assert circuit.away_seconds == 2.5


def test_pauses_differ() -> None:
    clock = Clock()
    ends = set()
    for dice in (0.0, 0.5, 1.0):
        circuit = Circuit("the server", 1, 1.0, clock, lambda dice=dice: dice)
        circuit.failed("timeout")
        clock.now = 0.0
        while not circuit.may_ask():
            clock.now += 0.05
        ends.add(round(clock.now, 2))
    assert len(ends) == 3


def test_shares() -> None:
    assert [share(limit, 4) for limit in (0, 1, 3, 4, 10)] == [0, 1, 1, 1, 2]


def test_local_windows_never_let_too_much_through() -> None:
    """Against a model that remembers everything."""
    dice = random.Random(1)
    clock = Clock()
    windows, taken = LocalWindows(clock), []
    for _ in range(20_000):
        clock.now += dice.random() * 0.05
        cost = dice.randrange(3)
        allowed, _, retry_after_ms = windows.take("k", 10, 1.0, cost)
        taken = [(at, units) for at, units in taken if at > clock.now - 1.0]
        used = sum(units for _, units in taken)
        if allowed:
            taken.append((clock.now, cost))
            assert used + cost <= 10
        else:
            assert retry_after_ms > 0
    assert not windows.take("k", 10, 1.0, 11)[0] and windows.take("k", 10, 1.0, 11)[2] == -1


def test_local_slots_end_by_themselves() -> None:
    clock = Clock()
    slots = LocalSlots(clock)
    assert slots.take("k", 1, "a", 5) == (True, 1, 0)
    assert slots.take("k", 1, "a", 5) == (True, 1, 0)
    assert slots.take("k", 1, "b", 5) == (False, 1, 5000)
    clock.now = 5.1
    assert slots.take("k", 1, "b", 5)[0]
    slots.free("k", "b")
    assert slots.take("k", 1, "c", 5)[0]
    assert not slots.take("other", 0, "d", 5)[0]
