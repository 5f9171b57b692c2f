"""What all parts of a gateway share: the way to the server, what runs in the background, what is counted and kept."""

from __future__ import annotations

import dataclasses
import logging
import random
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from .._commands import Request
from .._errors import GatewayError, NoHold, Unblocked
from ..decisions import Settlement
from ..deliveries import Delivery, KeptDeliveries
from ..failures import Unavailable, not_now, typed
from ..local import LocalSlots, LocalWindows
from ..settings import Settings
from ..telemetry import Telemetry, server_attributes
from . import _runtime as runtime
from .connections import AsyncServer
from .transport import AsyncTransport

__all__ = ["AsyncAnswer", "AsyncAsk", "AsyncCore"]

T = TypeVar("T")
log = logging.getLogger("redis_gateway")

OUTCOMES: dict[str, Settlement] = {
    "SETTLED": Settlement("settled"),
    "LATE": Settlement("late"),
    "REPEATED": Settlement("repeated"),
}
BATCH = 100
"""The most commands that are sent together, and their bytes: few enough to arrive within the time-out over a slow
network, and to hold up no other command of the server for long. A longer one is sent alone."""
BATCH_BYTES = 512 * 1024
# What other processes have left is looked for this often.
ADOPT_S = 60.0
BACKGROUND_TIMEOUT_S = 2.0
# For a command that looks at every key of a server.
SCAN_TIMEOUT_S = 60.0


def as_it_is(reply: object) -> object:
    return reply


class Unsettled(Protocol):
    """An admission that has not ended."""

    def forgotten(self, figure: str) -> None:
        """Keeps its settlement, unless it has ended meanwhile."""
        ...


def background(settings: Settings) -> Settings:
    # Its calls are few, so they need no circuit: each of them tries.
    return dataclasses.replace(
        settings,
        timeout=max(settings.timeout, BACKGROUND_TIMEOUT_S),
        connections=2,
        waiting_connections=1,
        waiting_timeout=max(settings.waiting_timeout, SCAN_TIMEOUT_S),
        failures=sys.maxsize,
    )


class AsyncAsk(Protocol):
    """Sends a request, and returns its typed reply, or raises."""

    async def __call__(self, request: Request[T], /) -> T: ...


class AsyncAnswer:
    """The reply of a request that was sent together with others, for whoever asks for it alone."""

    def __init__(self, reply: Any) -> None:
        self.reply = reply

    async def __call__(self, request: Request[T], /) -> T:
        if isinstance(self.reply, BaseException):
            raise self.reply
        return request.decode(self.reply)


class AsyncCore:
    def __init__(self, client: Any, settings: Settings, telemetry: Telemetry) -> None:
        self._client = client
        self.settings = settings
        self.telemetry = telemetry
        self.tasks = runtime.Tasks()
        self.transport = AsyncTransport(client, settings, self.tasks, telemetry)
        self.background = AsyncTransport(client, background(settings), self.tasks, telemetry)
        """For what no request waits for and may be large, such as log records and what is kept: a few connections of
        its own with a time-out of seconds. How it goes says nothing about the request path, so it does not open that
        circuit, and an open circuit does not hold it up."""
        self.windows = LocalWindows()
        self.slots = LocalSlots()
        self.kept = KeptDeliveries(
            settings.kept.count,
            settings.kept.directory,
            settle_within=settings.kept.settle_within,
            charge_within=settings.kept.charge_within,
            book_within=settings.kept.book_within,
        )
        self._adopt_at = 0.0 if settings.kept.directory is not None else float("inf")
        self.living: weakref.WeakSet[Unsettled] = weakref.WeakSet()
        """Admissions that have not ended."""
        self.leaked: deque[Unsettled] = deque()
        """Admissions that the garbage collector has found. It may find them while this thread holds any lock, so it
        only puts them here."""
        self._watching = False
        self.closing = runtime.Event()
        self.wakers: list[runtime.Event] = []
        """Woken when the gateway closes."""
        self._sending = False
        self._mutex = runtime.Mutex()
        self.closed = False
        telemetry.watch("kept.waiting", self, lambda core: [(len(core.kept), {})] if not core.closed else [])
        telemetry.watch("circuit.open", self, lambda core: core.of_servers(lambda one: float(one.circuit.is_open)))
        telemetry.watch("away.seconds", self, lambda core: core.of_servers(lambda one: one.circuit.away_seconds))

    def of_servers(self, figure: Callable[[AsyncServer], float]) -> list[tuple[float, dict[str, Any]]]:
        """A figure of each server of the request path."""
        servers = self.transport.servers() if not self.closed else []
        return [(figure(server), server_attributes(server.address)) for server in servers]

    async def run(self, request: Request[T]) -> T:
        self._look_after()
        return await self.transport.call(request)

    def asking(self, away: str | None) -> AsyncAsk:
        """What a decision asks: the server; or nobody, since it was away just before, for this reason."""
        return self.run if away is None else AsyncAnswer(Unavailable(away, sent=False))

    async def wait_or_run(self, asked: Callable[[float], Request[T]], wait: float) -> T:
        """Asks with a wait in the server of that many seconds. Asks without one if it is 0, if the server ends the wait
        early, or if all connections on which calls wait are taken: who wants to wait on asks now and then."""
        if wait > 0:
            try:
                return await self.transport.wait(asked(wait))
            except Unavailable as error:
                if error.reason != "connections":
                    raise
                await runtime.sleep(min(wait, 0.1))
            except Unblocked:
                pass
        return await self.run(asked(0.0))

    async def together(self, requests: Sequence[Request[Any]]) -> list[AsyncAnswer]:
        """Sends them in one round trip to each server. What each has brought is had by asking it."""
        self._look_after()
        return [AsyncAnswer(reply) for reply in await self.transport.many(requests)]

    def _look_after(self) -> None:
        if self.leaked:
            self.settle_leaked()
        if time.monotonic() >= self._adopt_at:
            self.adopt()
        if len(self.kept) and not self._sending:
            self.start_sending()  # Of a delivery that was broken off.

    def adopt(self) -> None:
        """Takes over what processes that are gone have left to be sent."""
        self._adopt_at = time.monotonic() + ADOPT_S
        before = self.kept.given_up
        found = self.kept.adopt()
        if self.kept.given_up > before:
            self.telemetry.count("kept_given_up", self.kept.given_up - before)
            log.error("%d were given up: they were left too long ago", self.kept.given_up - before)
        if found:
            self.start_sending()

    # Admissions that nobody settles.

    def watch(self, admission: Unsettled) -> None:
        """Sees to it that it is settled if it is forgotten."""
        with self._mutex:
            self.living.add(admission)
            start = not self._watching and not self.closed
            self._watching = self._watching or start
        if start:
            try:
                self.tasks.start(self._watch)
            except RuntimeError:
                self._watching = False

    def unwatch(self, admission: Unsettled) -> None:
        with self._mutex:
            self.living.discard(admission)

    async def _watch(self) -> None:
        try:
            while not await self.closing.wait(min(1.0, self.settings.kept.every)):
                self.settle_leaked()
                if time.monotonic() >= self._adopt_at:
                    self.adopt()
                with self._mutex:
                    if not len(self.living) and not self.leaked:
                        self._watching = False
                        return
        finally:
            self._watching = False

    def settle_leaked(self) -> None:
        while self.leaked:
            try:
                admission = self.leaked.popleft()
            except IndexError:
                return  # Another thread was quicker.
            admission.forgotten("admissions_leaked")

    def settle_living(self) -> None:
        """The gateway closes: whoever has them cannot settle them any more."""
        with self._mutex:
            living = list(self.living)
        for admission in living:
            admission.forgotten("admissions_closed")
        self.settle_leaked()

    # Deliveries: what must arrive.

    async def deliver(self, delivery: Delivery) -> Settlement:
        """Tells the server at once, or keeps it for later if the server is away."""
        if self.kept.too_old(delivery):
            return self._give_up(delivery)
        if len(self.kept) and self._behind(delivery):
            return self.keep(delivery)
        began = time.time()
        try:
            reply = await self.run(Request(tuple(delivery.words), as_it_is, True))
        except Unavailable as error:
            if error.sent:
                delivery.first_sent = delivery.first_sent or began
            return self.keep(delivery)
        except NoHold:
            reply = b"UNKNOWN"
        except GatewayError as error:
            if not_now(error):
                return self.keep(delivery)
            raise
        except BaseException:
            # The event loop or the program ends, or something else was thrown in. It may have arrived.
            delivery.first_sent = delivery.first_sent or began
            self.store(delivery)
            raise
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
        if not self.kept.may_book(delivery):
            return self._give_up(delivery)
        self.telemetry.count("settlements_unknown")
        charged = await self.deliver_all(delivery.charges())
        return Settlement("kept" if charged.outcome in ("kept", "given_up") else "charged")

    async def tell(self, asked: Request[bool]) -> bool | None:
        """Tells the server that a lock or a batch has ended. None if it is away: then it is told when it is back. By
        then it may have ended by itself, and what is told later concerns nobody else's."""
        later = Delivery(list(asked.args))
        try:
            return await self.run(asked)
        except Unavailable as error:
            later.first_sent = time.time() if error.sent else None
            self.keep(later)
            return None
        except GatewayError:
            raise
        except BaseException:
            later.first_sent = time.time()
            self.store(later)
            raise

    def _ask_again(self, delivery: Delivery) -> bool:
        """Whether it is to be sent again after the reply UNKNOWN. A gateway that closes has no time for that; if there
        is a directory, the next process has."""
        return delivery.ask_again() and (not self.closed or self.settings.kept.directory is not None)

    def _behind(self, delivery: Delivery) -> bool:
        """Whether the server is away, so that there is no need to try."""
        servers = self.transport.servers()
        return bool(servers) and all(server.circuit.is_open for server in servers)

    def keep(self, delivery: Delivery) -> Settlement:
        """Keeps it, and sees to it that it is sent."""
        settlement = self.store(delivery)
        if settlement.outcome == "kept":
            self.start_sending()
        return settlement

    def store(self, delivery: Delivery) -> Settlement:
        """Keeps it, for whoever sends next."""
        if not self.kept.add(delivery):
            self.telemetry.count("kept_dropped")
            return Settlement("given_up")
        self.telemetry.count("kept")
        return Settlement("kept")

    def _give_up(self, delivery: Delivery) -> Settlement:
        """It may have arrived, and the server may have forgotten that: to send it again could charge it twice."""
        self.kept.done(delivery)
        self.telemetry.count("kept_given_up")
        log.error("%s was given up: the server was away for too long", delivery.words[0])
        return Settlement("given_up")

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

    async def _send_kept(self) -> None:
        """Sends what is kept until nothing is."""
        try:
            while not self.closed:
                pause = self.settings.kept.every * (0.75 + 0.5 * random.random())
                if await self.closing.wait(pause):
                    return
                if not len(self.kept):
                    with self._mutex:
                        if not len(self.kept):
                            self._sending = False
                            return
                try:
                    await self.send_kept()
                except Exception:
                    # What is kept must not stay here for ever because of one mistake.
                    log.exception("kept settlements and charges were not sent")
        finally:
            self._sending = False

    async def send_kept(self) -> int:
        """Tries once to send what is kept, and returns how much was taken."""
        self.settle_leaked()
        if time.monotonic() >= self._adopt_at:
            self.adopt()
        # A process that is killed meanwhile leaves the first without the second.
        self.kept.sending(True)
        try:
            return await self._send_batches()
        finally:
            self.kept.sending(False)

    async def _send_batches(self) -> int:
        taken = 0
        left = len(self.kept)
        # The nodes that do not answer, or refuse whatever comes: each is waited for once.
        silent: set[object] = set()
        while left > 0 and None not in silent:
            batch: list[Delivery] = []
            found = self.kept.first(min(BATCH, left))
            if not found:
                break
            left -= len(found)
            for one in found:
                if self.kept.too_old(one):
                    self._give_up(one)
                elif self.background.node_of(one.words) in silent:
                    self.kept.later(one)
                else:
                    batch.append(one)
            if not batch:
                await runtime.sleep(0)  # There may be many, and other tasks get their turn.
                continue
            began = time.time()
            try:
                replies = await self.background.many([Request(tuple(one.words), as_it_is, True) for one in batch])
            except BaseException:
                for delivery in batch:
                    delivery.first_sent = delivery.first_sent or began
                    self.kept.later(delivery)
                raise
            away = 0
            for delivery, reply in zip(batch, replies, strict=True):
                if not_now(reply):
                    away += 1
                    if isinstance(reply, Unavailable) and reply.sent:
                        delivery.first_sent = delivery.first_sent or began
                    if isinstance(reply, Unavailable) and reply.down:
                        silent.add(self.background.node_of(delivery.words))
                    self._retry(delivery)
                else:
                    taken += 1
                    self._taken(delivery, reply)
            if away == len(batch):
                silent.update(self.background.node_of(delivery.words) for delivery in batch)
        return taken

    def _retry(self, delivery: Delivery) -> None:
        if self.kept.too_old(delivery):
            self._give_up(delivery)
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
        elif reply == b"UNKNOWN" and delivery.fallback and not self.kept.may_book(delivery):
            self._give_up(delivery)
        elif reply == b"UNKNOWN":
            if delivery.fallback:
                self.telemetry.count("settlements_unknown")
            self.kept.done(delivery, delivery.charges())
        else:
            self.kept.done(delivery)
            self.telemetry.count("kept_sent")

    async def deliver_all(self, deliveries: Sequence[Delivery]) -> Settlement:
        """The outcome of the first one, unless another was kept. An error of one holds up no other: it is raised at the
        end."""
        outcomes: list[Settlement] = []
        failed: GatewayError | None = None
        for place, delivery in enumerate(deliveries):
            try:
                outcomes.append(await self.deliver(delivery))
            except GatewayError as error:
                failed = failed or error
            except BaseException:
                # The event loop or the program ends, or something else was thrown in: the others are kept, too.
                for other in deliveries[place + 1 :]:
                    self.store(other)
                raise
        if failed is not None:
            raise failed
        for outcome in outcomes:
            if outcome.outcome in ("kept", "given_up"):
                return outcome
        return outcomes[0] if outcomes else Settlement("nothing")

    async def aclose(self, seconds: float) -> None:
        if self.closed:
            return
        self.closed = True
        for event in (self.closing, *self.wakers):
            event.set()
        end = time.monotonic() + seconds
        # What is kept gets the rest of the time: enough for a server that does not answer to be waited for.
        await self.tasks.finish(max(seconds - BACKGROUND_TIMEOUT_S, seconds / 2))
        self.settle_living()
        try:
            await runtime.bounded(max(0.0, end - time.monotonic()), self._send_last)
        except TimeoutError:
            pass  # Whatever may have arrived is marked as such.
        except Exception:
            log.exception("kept settlements and charges were not sent")
        if len(self.kept):
            log.warning("%d settlements and charges were not sent", len(self.kept))
        self.kept.close()
        await self.transport.aclose()
        await self.background.aclose()

    async def _send_last(self) -> None:
        # The second time for charges that take the place of settlements that nobody knows.
        if len(self.kept) and await self.send_kept() and len(self.kept):
            await self.send_kept()

    # The process.

    def after_fork(self) -> None:
        """In the child: threads, locks, connections and what is to be sent are the parent's."""
        self.living = weakref.WeakSet()
        self.leaked = deque()
        self.telemetry.after_fork()
        self.kept.after_fork()
        self.windows, self.slots = LocalWindows(), LocalSlots()
        self.closing = runtime.Event()
        if self.closed:
            self.closing.set()
        self.wakers = []
        self._mutex = runtime.Mutex()
        self.anew()

    def anew(self) -> None:
        """Without the tasks and connections so far, which belong to another process or to an event loop that has
        ended."""
        self._sending = self._watching = False
        self.tasks = runtime.Tasks()
        self.transport = AsyncTransport(self._client, self.settings, self.tasks, self.telemetry)
        self.background = AsyncTransport(self._client, background(self.settings), self.tasks, self.telemetry)


def refused(error: BaseException) -> bool:
    """Whether it is an error reply, not the server's absence."""
    return isinstance(error, GatewayError)
