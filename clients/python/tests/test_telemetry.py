"""OpenTelemetry, and what must not be in it."""

from __future__ import annotations

import contextlib
import gc
import logging
import subprocess
import sys
from typing import Any

import pytest
import redis

from redis_gateway import Away, CallFailed, Gateway, Kept, Settings, Telemetry
from servers import Server

sdk = pytest.importorskip("opentelemetry.sdk")

SECRETS = ("the-password", "the-prompt", "the-answer", "the-record", "the-key", "the-account")


@pytest.fixture(scope="module")
def exported() -> tuple[Any, Any]:
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([reader]))
    return spans, reader


def metrics_of(reader: Any) -> list[Any]:
    """What the reader sees now: each metric of this package."""
    data = reader.get_metrics_data()
    return [
        metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        if scope.scope.name == "redis_gateway"
        for metric in scope.metrics
    ]


def use(gateway: Gateway) -> None:
    gateway.allow("the-key", 1)
    with gateway.admit(
        "the-account", {"input_tokens": 9, "usd": 1}, attributes={"gen_ai.request.model": "small"}
    ) as admission:
        admission.use(input_tokens=7)
    gateway.cache("chat").get_or_compute({"content": "the-prompt"}, lambda: "the-answer")
    logs = gateway.logs("the-key:log")
    logs.push({"text": "the-record"})
    logs.flush()


def test_spans_and_metrics(own_server: Server, exported: tuple[Any, Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    spans, reader = exported
    own_server.run("CONFIG SET requirepass the-password")
    client = redis.Redis(port=own_server.port, password="the-password")
    with Gateway(client, Settings(timeout=5, connect_timeout=5, away=Away(limits="open"))) as gateway:
        use(gateway)
        gateway.clear_tag("the-key")
        own_server.stop()
        for _ in range(6):
            gateway.allow("the-key", 1)
        finished = spans.get_finished_spans()
        metrics = reader.get_metrics_data().to_json()
    names = [span.name for span in finished]
    assert {"GW.ALLOW", "GW.ADMIT", "GW.SETTLE", "GW.CACHEFETCH", "GW.CACHESET", "GW.LOGPUSH"} <= set(names)
    one = next(span for span in finished if span.name == "GW.ADMIT")
    assert dict(one.attributes) == {
        "db.system.name": "redis",
        "db.operation.name": "GW.ADMIT",
        "server.address": "localhost",
        "server.port": own_server.port,
    }
    failed = [span for span in finished if span.status.status_code.name == "ERROR"]
    assert failed and failed[-1].attributes["error.type"] in ("connection", "circuit_open")
    for name in (
        "db.client.operation.duration",
        "gen_ai.client.token.usage",
        "redis_gateway.decisions",
        "redis_gateway.circuit.open",
        "redis_gateway.away.seconds",
        "redis_gateway.kept.waiting",
        "redis_gateway.log.buffered",
    ):
        assert f'"{name}"' in metrics, name
    assert '"degraded"' in metrics and '"gen_ai.request.model": "small"' in metrics
    told = metrics + "".join(span.to_json() for span in finished) + caplog.text
    assert [secret for secret in SECRETS if secret in told] == []


def test_tokens_of_several_attempts_are_told_once(server: Server, exported: tuple[Any, Any]) -> None:
    """By the accounts' admission, for all attempts. A target that is called without accounts tells its own."""

    def told() -> tuple[int, float]:
        """How often, and how many, of all tests so far."""
        points = [
            point
            for metric in metrics_of(exported[1])
            if metric.name == "gen_ai.client.token.usage"
            for point in metric.data.data_points
        ]
        return sum(point.count for point in points), sum(point.sum for point in points)

    for key in ("{told}", "{told}:eu", "{told}:us"):
        server.run(f"GW.POLICYSET {key} rpm WINDOW 5 PER 60000")
    targets = ["{told}:eu", "{told}:us"]
    with Gateway(redis.Redis(port=server.port), Settings(timeout=5, connect_timeout=5)) as gateway:
        with gateway.admit("{told}", {"input_tokens": 1}) as admission:
            admission.use(input_tokens=1)
        count, tokens = told()
        with gateway.request("{told}", targets) as request:
            for attempt, used in zip(request.attempts(), (3, 4), strict=False):
                with attempt:
                    attempt.use(input_tokens=used)
                    if used == 3:
                        raise CallFailed
        assert told() == (count + 1, tokens + 7)
        with gateway.route(targets) as attempt:
            attempt.use(input_tokens=5)
        assert told() == (count + 2, tokens + 12)


def test_histograms_have_the_buckets_of_the_conventions(server: Server, exported: tuple[Any, Any]) -> None:
    with Gateway(redis.Redis(port=server.port), Settings(timeout=5, connect_timeout=5)) as gateway:
        use(gateway)
    boundaries = {
        metric.name: list(metric.data.data_points[0].explicit_bounds)
        for metric in metrics_of(exported[1])
        if hasattr(metric.data.data_points[0], "explicit_bounds")
    }
    assert boundaries == {
        "db.client.operation.duration": [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10],
        "gen_ai.client.token.usage": [
            *(1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
        ],
    }


def test_gateways_of_a_process_share_gauges(server: Server, own_server: Server, exported: tuple[Any, Any]) -> None:
    """OpenTelemetry keeps one value for each set of attributes: none of the gateways must be missing in it."""

    def gauge(name: str, label: str) -> dict[Any, float]:
        found = next(metric for metric in metrics_of(exported[1]) if metric.name == f"redis_gateway.{name}")
        return {point.attributes.get(label): point.value for point in found.data.data_points}

    gc.collect()  # Gateways of other tests.
    settings = Settings(timeout=5, connect_timeout=5, failures=1, pause=3600, kept=Kept(every=3600))
    with contextlib.ExitStack() as stack:

        def gateway(port: int, name: str = "") -> Gateway:
            client = redis.Redis(host="127.0.0.1", port=port)
            return stack.enter_context(Gateway(client, settings, telemetry=Telemetry(name)))

        one, two, three = gateway(server.port), gateway(own_server.port), gateway(own_server.port, "three")
        one.logs("a", every=3600).push({})
        for at in range(2):
            one.logs("b", every=3600).push(at)
        assert gauge("log.buffered", "gateway")[None] == 3
        own_server.stop()
        for away in (two, three, three):
            away.budgets.charge("l", 1)
        assert gauge("kept.waiting", "gateway") == {None: 1, "three": 2}
        open_at = gauge("circuit.open", "server.port")
        assert (open_at[server.port], open_at[own_server.port]) == (0, 1)
        three.close(0.1)
        assert gauge("kept.waiting", "gateway") == {None: 1}
        own_server.start()


def test_an_older_opentelemetry_has_its_own_buckets() -> None:
    class Meter:
        def create_histogram(self, name: str, unit: str = "", description: str = "") -> str:
            return name

    telemetry = Telemetry(opentelemetry=False)
    telemetry._meter = Meter()
    assert telemetry._histogram("h", "s", "", (1.0,)) == "h"


def test_figures_without_opentelemetry(server: Server) -> None:
    program = """
import sys
for name in list(sys.modules):
    assert not name.startswith("opentelemetry")
sys.modules["opentelemetry"] = None
import redis
from redis_gateway import Gateway
with Gateway(redis.Redis(port=int(sys.argv[1]))) as gateway:
    gateway.allow("k", 1)
    assert any(name.startswith("decisions{family=limits") for name in gateway.figures())
"""
    path = {"PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", program, str(server.port)], check=True, env=path)


def test_health(own_server: Server) -> None:
    with Gateway(redis.Redis(port=own_server.port), Settings(timeout=5, connect_timeout=5, failures=1)) as gateway:
        health = gateway.health()
        assert (health.ok, health.reason, health.kept, health.circuits_open) == (True, "", 0, 0) and 0 < health.took < 5
        gateway.logs("log", every=3600).push({})
        assert gateway.health().log_records == 1
        own_server.stop()
        gateway.budgets.charge("l", 1)
        health = gateway.health()
        assert (health.ok, health.kept, health.circuits_open) == (False, 1, 1)
    without = Server(with_module=False)
    try:
        with Gateway(redis.Redis(port=without.port), Settings(timeout=5, connect_timeout=5)) as gateway:
            assert (gateway.health().ok, gateway.health().reason) == (False, "ModuleMissing")
    finally:
        without.close()


def test_the_clients_settings_are_left_alone(server: Server) -> None:
    client = redis.Redis(port=server.port, socket_timeout=3, decode_responses=True)
    before = dict(client.connection_pool.connection_kwargs)
    with Gateway(client, telemetry=Telemetry(opentelemetry=False)) as gateway:
        gateway.allow("k", 1)
    assert client.connection_pool.connection_kwargs == before
    assert client.ping() and client.set("other", "ü") and client.get("other") == "ü"
    client.close()


def test_the_shipped_role(own_server: Server) -> None:
    """All parts work for a user with the gateway's role in redis.conf."""
    from servers import ROOT

    line = next(line for line in (ROOT / "redis.conf").read_text().splitlines() if line.startswith("#user gateway "))
    own_server.run("ACL SETUSER " + line.removeprefix("#user ").replace("CHANGE-ME", "secret"))
    own_server.run("GW.POLICYSET {ml} rpm WINDOW 5 PER 60000")
    client = redis.Redis(port=own_server.port, username="gateway", password="secret")
    with Gateway(client, Settings(timeout=5, connect_timeout=5)) as gateway:
        assert gateway.health().ok
        with gateway.request("{ml}", ["{gpt}:eu"], {"usd": 1}) as request:
            assert request.ok
        assert gateway.allow("rpm:user", 1).outcome == "admitted"
        assert gateway.cache("chat").get_or_compute({"a": 1}, lambda: 1) == 1
        assert gateway.cache("chat").get({"a": 1}) == 1
        with gateway.slot("inflight:a", 2, wait=1) as slot:
            assert slot.ok
        with gateway.budgets.reserve("spend:a", 1, [(5, "MONTH")]) as hold:
            assert hold.ok
        logs = gateway.logs("log:requests")
        logs.push({})
        assert logs.flush() and logs.dropped == 0


def test_measuring_fails_no_request(server: Server, exported: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a token, and an exporter that is broken."""

    class Broken:
        def __getattr__(self, name: str) -> Any:
            def fails(*args: Any, **kwargs: Any) -> Any:
                raise RuntimeError(name)

            return fails

    def settled(gateway: Gateway) -> None:
        with gateway.admit("a", {"input_tokens": 9}) as admission:
            admission.use(input_tokens="12.5", output_tokens=1)
        assert admission.settlement is not None and admission.settlement.outcome == "settled"

    server.run("GW.POLICYSET a rpm WINDOW 9 PER 60000")
    with Gateway(redis.Redis(port=server.port), Settings(timeout=5, connect_timeout=5)) as gateway:
        settled(gateway)
        for name in ("_tracer", "_meter", "_tokens", "_duration"):
            monkeypatch.setattr(gateway.telemetry, name, Broken())
        settled(gateway)
        gateway.telemetry.count("other")
        gateway.telemetry.watch("other", gateway, lambda _: [(1.0, {})])
        assert gateway.figures()["other"] == 1
