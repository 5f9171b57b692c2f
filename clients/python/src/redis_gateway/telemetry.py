"""Counts what is decided and how it went; to OpenTelemetry as well, if its API is installed.

Nothing here has a key, a prompt, an answer or a credential in it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, TypeVar

__all__ = ["Telemetry", "server_attributes"]

T = TypeVar("T")
Labels = tuple[tuple[str, str], ...]
Readings = Iterable[tuple[float, Mapping[str, Any]]]
log = logging.getLogger("redis_gateway")

# The boundaries that the conventions advise. Those of OpenTelemetry itself are meant for milliseconds.
SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
TOKENS = tuple(4**power for power in range(14))


def quietly(work: Callable[..., Any], *args: Any) -> None:
    """What is measured must not fail because of how it is measured."""
    try:
        work(*args)
    except Exception as error:
        log.debug("a figure was not recorded: %s", type(error).__name__)


def server_attributes(server: str) -> dict[str, Any]:
    """Of `host:port`, or of the path of a socket."""
    host, _, port = server.rpartition(":")
    if port.isdigit():
        return {"server.address": host, "server.port": int(port)}
    return {"server.address": server} if server else {}


class Gauge:
    """A figure of all gateways of this process. OpenTelemetry has one instrument of a name, and one value of it for
    each set of attributes: values with the same attributes are added."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._watched: dict[int, tuple[weakref.ref[Any], Callable[[Any], Readings], Mapping[str, str]]] = {}

    def add(self, owner: Any, read: Callable[[Any], Readings], attributes: Mapping[str, str]) -> None:
        """Reads it from the owner, for as long as that is there."""
        number = next(self._numbers)
        self._watched[number] = weakref.ref(owner), read, attributes
        weakref.finalize(owner, self._watched.pop, number, None).atexit = False

    def values(self) -> list[tuple[float, dict[str, Any]]]:
        sums: dict[frozenset[tuple[str, Any]], float] = {}
        for reference, read, attributes in self._watched.copy().values():
            owner = reference()
            for value, own in read(owner) if owner is not None else ():
                labels = frozenset({**own, **attributes}.items())
                sums[labels] = sums.get(labels, 0) + value
        return [(value, dict(labels)) for labels, value in sums.items()]


_gauges: dict[str, Gauge] = {}


class Telemetry:
    """Figures of one gateway. `figures()` has them without OpenTelemetry, too.

    Args:
        name: Tells this gateway's counts and gauges in OpenTelemetry from those of the process's other gateways: the
            attribute `gateway`. Without names they are added.
        opentelemetry: Whether the figures go there as well, if its API is installed.
    """

    def __init__(self, name: str = "", *, opentelemetry: bool = True) -> None:
        self._attributes = {"gateway": name} if name else {}
        self._lock = threading.RLock()
        self._counts: dict[tuple[str, Labels], int] = {}
        self._tracer: Any = None
        self._counters: dict[str, Any] = {}
        self._duration: Any = None
        self._tokens: Any = None
        self._meter: Any = None
        if opentelemetry:
            self._use_opentelemetry()

    def _use_opentelemetry(self) -> None:
        try:
            from opentelemetry import metrics, trace
        except ImportError:
            return
        self._tracer = trace.get_tracer("redis_gateway")
        self._meter = metrics.get_meter("redis_gateway")
        self._duration = self._histogram(
            "db.client.operation.duration", "s", "How long the server took to answer.", SECONDS
        )
        self._tokens = self._histogram(
            "gen_ai.client.token.usage", "{token}", "Tokens that requests have used.", TOKENS
        )

    def _histogram(self, name: str, unit: str, description: str, boundaries: Sequence[float]) -> Any:
        try:
            return self._meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=boundaries)
        except TypeError:  # The API before 1.30, which somebody else has installed, has no advice.
            return self._meter.create_histogram(name, unit, description)

    def after_fork(self) -> None:
        """In the child: a thread that is not here may hold the lock."""
        self._lock = threading.RLock()

    def count(self, name: str, amount: int = 1, /, **labels: str) -> None:
        key = (name, tuple(labels.items()))
        with self._lock:
            self._counts[key] = self._counts.get(key, 0) + amount
        if self._meter is not None:
            quietly(self._add, name, amount, labels)

    def _add(self, name: str, amount: int, labels: Mapping[str, str]) -> None:
        counter = self._counters.get(name)
        if counter is None:
            counter = self._counters[name] = self._meter.create_counter(f"redis_gateway.{name}")
        counter.add(amount, {**labels, **self._attributes})

    def decided(self, family: str, outcome: str, reason: str) -> None:
        self.count("decisions", family=family, outcome=outcome, reason=reason or "none")

    def used(self, amounts: Mapping[str, Any], attributes: Mapping[str, str]) -> None:
        """Tokens of a settled request, by the conventions for generative AI."""
        if self._tokens is None:
            return
        for meter, kind in (("input_tokens", "input"), ("output_tokens", "output")):
            if meter in amounts:
                quietly(self._record_tokens, kind, amounts[meter], attributes)

    def _record_tokens(self, kind: str, amount: Any, attributes: Mapping[str, str]) -> None:
        # Meters may count parts of a token, which the conventions do not.
        self._tokens.record(round(float(amount)), {"gen_ai.token.type": kind, **attributes})

    def watch(self, name: str, owner: T, read: Callable[[T], Readings]) -> None:
        """A figure that is read from its owner when it is asked for, such as the length of a queue."""
        if self._meter is not None:
            quietly(self._watch, name, owner, read)

    def _watch(self, name: str, owner: Any, read: Callable[[Any], Readings]) -> None:
        gauge = Gauge()
        known = _gauges.setdefault(name, gauge)
        if known is gauge:
            try:
                self._create_gauge(name, gauge)
            except BaseException:
                del _gauges[name]
                raise
        known.add(owner, read, self._attributes)

    def _create_gauge(self, name: str, gauge: Gauge) -> None:
        from opentelemetry.metrics import CallbackOptions, Observation

        def observe(_: CallbackOptions) -> list[Observation]:
            return [Observation(value, labels) for value, labels in gauge.values()]

        self._meter.create_observable_gauge(f"redis_gateway.{name}", callbacks=[observe])

    @contextlib.contextmanager
    def call(self, operation: str, server: str) -> Generator[None, None, None]:
        """A call to the server: a span and its duration."""
        if self._tracer is None:
            yield
            return
        labels: dict[str, Any] = {"db.system.name": "redis", "db.operation.name": operation}
        labels.update(server_attributes(server))
        started = time.perf_counter()
        from opentelemetry.trace import SpanKind, Status, StatusCode

        span: Any = None
        with contextlib.ExitStack() as stack:
            try:
                span = stack.enter_context(
                    self._tracer.start_as_current_span(
                        operation,
                        kind=SpanKind.CLIENT,
                        attributes=labels,
                        record_exception=False,
                        set_status_on_exception=False,
                    )
                )
            except Exception as error:
                log.debug("a call was not traced: %s", type(error).__name__)
            try:
                yield
            except BaseException as error:
                labels["error.type"] = getattr(error, "reason", None) or type(error).__name__
                if span is not None:
                    quietly(span.set_attribute, "error.type", labels["error.type"])
                    quietly(span.set_status, Status(StatusCode.ERROR))
                raise
            finally:
                quietly(self._duration.record, time.perf_counter() - started, labels)

    @property
    def traces(self) -> bool:
        return self._tracer is not None

    def figures(self) -> dict[str, int]:
        """Each count by its name and labels, as in `decisions{family=admission,outcome=denied,reason=limit}`."""
        with self._lock:
            counts = dict(self._counts)
        return {
            name + ("{" + ",".join(f"{label}={value}" for label, value in labels) + "}" if labels else ""): count
            for (name, labels), count in sorted(counts.items())
        }
