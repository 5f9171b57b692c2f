# Generated from ../_async/core.py by tools/unasync.py. Do not edit.
"""What all parts of a gateway share: the way to the server, what runs in the background, what is counted and kept."""

from __future__ import annotations

import dataclasses
import logging
import random
import sys
import time
from collections.abc import Sequence
from typing import Any, TypeVar

from .._commands import Request
from .._errors import GatewayError, NoHold
from ..decisions import Settlement
from ..deliveries import Delivery, KeptDeliveries
from ..failures import Unavailable, typed
from ..local import LocalSlots, LocalWindows
from ..settings import Settings
from ..telemetry import Telemetry
from . import _runtime as runtime
from .transport import Transport

__all__ = ["Core"]

T = TypeVar("T")
log = logging.getLogger("redis_gateway")

OUTCOMES: dict[str, Settlement] = {
    "SETTLED": Settlement("settled"),
    "LATE": Settlement("late"),
    "REPEATED": Settlement("repeated"),
}
BATCH = 100
BACKGROUND_TIMEOUT_S = 3.0


def as_it_is(reply: object) -> object:
    return reply


def background(settings: Settings) -> Settings:
    # Its calls are few, so they need no circuit: each of them tries.
    return dataclasses.replace(
        settings,
        timeout=max(settings.timeout, BACKGROUND_TIMEOUT_S),
        connections=2,
        waiting_connections=1,
        failures=sys.maxsize,
    )


class Core:
    def __init__(self, client: Any, settings: Settings, telemetry: Telemetry) -> None:
        self.settings = settings
        self.telemetry = telemetry
        self.tasks = runtime.Tasks()
        self.transport = Transport(client, settings, self.tasks, telemetry)
        self.background = Transport(client, background(settings), self.tasks, telemetry)
        """For what nobody waits for and may be large, such as log records: a few connections of its own with a
        time-out of seconds. How it goes says nothing about the request path, so it does not open that circuit."""
        self.windows = LocalWindows()
        self.slots = LocalSlots()
        self.kept = KeptDeliveries(settings.kept.count, settings.kept.directory)
        self.closing = runtime.Event()
        self.wakers: list[runtime.Event] = []
        """Woken when the gateway closes."""
        self._sending = False
        self._mutex = runtime.Mutex()
        self.closed = False
        telemetry.watch("kept", lambda: [(len(self.kept), {})])
        telemetry.watch(
            "circuit.open",
            lambda: [
                (float(server.circuit.is_open), {"server": server.address}) for server in self.transport.servers()
            ],
        )
        telemetry.watch(
            "away.seconds",
            lambda: [(server.circuit.away_seconds, {"server": server.address}) for server in self.transport.servers()],
        )

    def run(self, request: Request[T]) -> T:
        return self.transport.call(request)

    # Deliveries: what must arrive.

    def deliver(self, delivery: Delivery) -> Settlement:
        """Tells the server at once, or keeps it for later if the server is away."""
        if len(self.kept) and self._behind(delivery):
            return self.keep(delivery)
        try:
            reply = self.run(Request(tuple(delivery.words), as_it_is, True))
        except Unavailable as error:
            if error.sent:
                delivery.first_sent = time.time()
            return self.keep(delivery)
        except NoHold:
            reply = b"UNKNOWN"
        if reply != b"UNKNOWN":
            return (
                OUTCOMES.get(reply.decode(), Settlement("settled"))
                if isinstance(reply, bytes)
                else Settlement("settled")
            )
        if self._ask_again(delivery):
            delivery.first_sent = delivery.first_sent or time.time()
            return self.keep(delivery)
        if not delivery.fallback:
            return Settlement("unknown")
        self.telemetry.count("settlements_unknown")
        charged = self.deliver_all(delivery.charges())
        return Settlement("kept" if charged.outcome in ("kept", "given_up") else "charged")

    def _ask_again(self, delivery: Delivery) -> bool:
        """Whether UNKNOWN is no answer yet. At the end only a next process has time for another one."""
        return delivery.ask_again() and (not self.closed or self.settings.kept.directory is not None)

    def _behind(self, delivery: Delivery) -> bool:
        """Whether the server is away, so that there is no need to try."""
        return all(server.circuit.is_open for server in self.transport.servers())

    def keep(self, delivery: Delivery) -> Settlement:
        """Keeps it, and sees to it that it is sent."""
        if not self.kept.add(delivery):
            self.telemetry.count("kept_dropped")
            return Settlement("given_up")
        self.telemetry.count("kept")
        self.start_sending()
        return Settlement("kept")

    def start_sending(self) -> None:
        with self._mutex:
            start = not self._sending and not self.closed
            self._sending = self._sending or start
        if start:
            try:
                self.tasks.start(self._send_kept)
            except RuntimeError:
                # No event loop runs here: an admission was collected after its loop had ended.
                self._sending = False

    def _send_kept(self) -> None:
        """Sends what is kept until nothing is."""
        try:
            while not self.closed:
                pause = self.settings.kept.every * (0.75 + 0.5 * random.random())
                if self.closing.wait(pause):
                    return
                if not len(self.kept):
                    with self._mutex:
                        if not len(self.kept):
                            self._sending = False
                            return
                self.send_kept()
        finally:
            self._sending = False

    def send_kept(self) -> int:
        """Tries once to send what is kept, and returns how much was taken."""
        taken = 0
        left = len(self.kept)
        while left > 0:
            batch = self.kept.first(min(BATCH, left))
            if not batch:
                break
            left -= len(batch)
            replies = self.transport.many([Request(tuple(one.words), as_it_is, True) for one in batch])
            away = 0
            for delivery, reply in zip(batch, replies, strict=True):
                if isinstance(reply, Unavailable):
                    away += 1
                    if reply.sent and delivery.first_sent is None:
                        delivery.first_sent = time.time()
                    self._retry(delivery)
                else:
                    taken += 1
                    self._taken(delivery, reply)
            if away == len(batch):
                break
        return taken

    def _retry(self, delivery: Delivery) -> None:
        kept = self.settings.kept
        within = kept.settle_within if delivery.is_settlement else kept.charge_within
        if delivery.first_sent is not None and time.time() - delivery.first_sent > within:
            # It may have arrived, and the server may have forgotten that: to send it again could charge it twice.
            self.kept.done(delivery)
            self.telemetry.count("kept_given_up")
            log.error("%s was given up: the server was away for too long", delivery.words[0])
        else:
            self.kept.later(delivery)

    def _taken(self, delivery: Delivery, reply: Any) -> None:
        if isinstance(reply, NoHold):
            reply = b"UNKNOWN"
        if isinstance(reply, Exception):
            self.kept.done(delivery)
            self.telemetry.count("kept_refused")
            log.error("%s was refused: %s", delivery.words[0], type(typed(reply)).__name__)
        elif reply == b"UNKNOWN" and self._ask_again(delivery):
            delivery.first_sent = delivery.first_sent or time.time()
            self.kept.later(delivery)
        elif reply == b"UNKNOWN":
            if delivery.fallback:
                self.telemetry.count("settlements_unknown")
            self.kept.done(delivery, delivery.charges())
        else:
            self.kept.done(delivery)
            self.telemetry.count("kept_sent")

    def deliver_all(self, deliveries: Sequence[Delivery]) -> Settlement:
        """The outcome of the first one, unless another was kept. An error of one holds up no other: it is raised at the
        end."""
        outcomes: list[Settlement] = []
        failed: Exception | None = None
        for delivery in deliveries:
            try:
                outcomes.append(self.deliver(delivery))
            except Exception as error:
                failed = failed or error
        if failed is not None:
            raise failed
        for outcome in outcomes:
            if outcome.outcome in ("kept", "given_up"):
                return outcome
        return outcomes[0] if outcomes else Settlement("nothing")

    def close(self, seconds: float) -> None:
        if self.closed:
            return
        self.closed = True
        for event in (self.closing, *self.wakers):
            event.set()
        self.tasks.finish(seconds)
        # Twice: a settlement that nobody knows becomes charges.
        for _ in range(2):
            if len(self.kept):
                self.send_kept()
        if len(self.kept):
            log.warning("%d settlements and charges were not sent", len(self.kept))
        self.kept.close()
        self.transport.close()
        self.background.close()


def refused(error: BaseException) -> bool:
    """Whether it is an error reply, not the server's absence."""
    return isinstance(error, GatewayError)
