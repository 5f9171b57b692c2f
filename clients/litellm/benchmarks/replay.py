"""What LiteLLM's users report, replayed on two replicas: with LiteLLM's own limiter, and with redis-gateway.

    GW_MODULE=libredis_gateway.so python benchmarks/replay.py [CASE ...]

Both have the same server, provider, keys and requests. Needs what the tests need. Prints a table, of all cases or of
those that are named. What is reported of spend in the database is in spend.py, which needs more.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(HERE / "tests"), str(HERE.parent / "python" / "tests")]

from proxies import Stack  # noqa: E402
from traffic import Told, at_once, exact_body, for_seconds, in_turns  # noqa: E402

Case = Callable[[Stack], str]
OWN: dict[str, Any] = {
    "litellm_settings": {
        "callbacks": ["plugin.refuses"],
        # LiteLLM shares its counters by the server of its cache. No answer is cached.
        "cache": True,
        "cache_params": {"type": "redis", "supported_call_types": []},
    },
    # Else it checks no budgets of keys that a custom_auth hands out.
    "general_settings": {"custom_auth_run_common_checks": True},
}


OWN_ROUTER: dict[str, Any] = {
    # The strategy that keeps a deployment's limits over all replicas.
    "routing_strategy": "usage-based-routing-v2",
    "redis_host": "os.environ/REDIS_HOST",
    "redis_port": "os.environ/REDIS_PORT",
}


def fresh(stack: Stack) -> None:
    stack.reset()
    for node in stack.nodes:
        node.run("FLUSHALL")


def requests_above_the_limit(stack: Stack) -> str:
    told = at_once(stack, stack.key("rpm", rpm_limit=60), 200, exact_body())
    return f"{told.codes[200] - 60:+d}"


def tokens_above_the_limit(stack: Stack) -> str:
    told = at_once(stack, stack.key("tpm", tpm_limit=1_000), 200, exact_body())
    return f"{told.codes[200] * 30 - 1_000:+d}"


def slots_after_cancelled_streams(stack: Stack) -> str:
    """Of 5 slots: how many requests are served at once after 5 clients have left in mid-stream."""
    key = stack.key("cancelled", max_parallel_requests=5)
    for number in range(5):
        headers = {"Authorization": f"Bearer {key}"}
        url = stack.urls[number % 2] + "/v1/chat/completions"
        body = exact_body("waits", stream=True)
        with (
            contextlib.suppress(httpx.HTTPError),
            httpx.Client(timeout=30) as client,
            client.stream("POST", url, json=body, headers=headers) as answer,
        ):
            next(line for line in answer.iter_lines() if "one" in line)
    stack.release()
    time.sleep(5)  # Whoever gives them back has had the time.
    stack.reset()
    told = at_once(stack, key, 5, exact_body("waits-first"), meanwhile=lambda: release_when(stack, 5))
    return str(5 - told.codes[200])


def above_the_limits_of_deployments(stack: Stack) -> str:
    """Two deployments of a model, with 2 requests a minute and 1."""
    told = at_once(stack, stack.key("deployments"), 20, exact_body("two"))
    return f"{told.codes[200] - 3:+d}"


def release_when(stack: Stack, running: int) -> None:
    end = time.monotonic() + 5
    while time.monotonic() < end and stack.seen()["running"] < running:
        time.sleep(0.05)
    stack.release()


def at_a_time_above_the_limit(stack: Stack) -> str:
    key = stack.key("parallel", max_parallel_requests=10)

    def meanwhile() -> None:
        time.sleep(15)
        stack.release()

    at_once(stack, key, 200, exact_body("waits-first"), meanwhile=meanwhile)
    return f"{stack.seen()['most'] - 10:+d}"


def dollars_above_the_budget(stack: Stack) -> str:
    """2.02 dollars are 40 answers of 0.05. Before, one after another: whether the budget is checked at all."""
    told = in_turns(stack, stack.key("one-by-one", max_budget=0.32, spend=0.0), 20, exact_body(), workers=1)
    if told.codes[200] == 20:
        return "not checked"
    told = at_once(stack, stack.key("usd", max_budget=2.02, spend=0.0), 200, exact_body())
    return f"{max(0.0, told.codes[200] * 0.05 - 2.02):.2f}"


def waits_while_paused(stack: Stack) -> str:
    """While the server does not answer for 5 seconds: how much longer the slowest in a hundred takes than before, the
    longest wait, and how many requests are not served."""
    key = stack.key("paused", rpm_limit=1_000_000)
    calm = in_turns(stack, key, 200, exact_body(), workers=2)
    stack.server.freeze()
    began = time.monotonic()
    try:
        told = for_seconds(stack, key, 5.0, exact_body(), workers=2)
    finally:
        time.sleep(max(0.0, 5.0 - (time.monotonic() - began)))
        stack.server.thaw()
    return waits(calm, told)


def waits_while_dead(stack: Stack) -> str:
    """The same with a server that is killed. The one that is started afterwards has no data."""
    key = stack.key("killed", rpm_limit=1_000_000)
    calm = in_turns(stack, key, 200, exact_body(), workers=2)
    stack.server.stop()
    try:
        told = for_seconds(stack, key, 5.0, exact_body(), workers=2)
    finally:
        stack.server.start()
    return waits(calm, told)


def waits(calm: Told, told: Told) -> str:
    refused = told.codes.total() - told.codes[200]
    return f"{told.p99() - calm.p99():+.2f} s; {max(told.took):.1f} s; {refused} of {told.codes.total()} not served"


def above_the_limit_after_a_pause(stack: Stack) -> str:
    """The server is back, and nobody has asked it yet."""
    before = stack.key("before", rpm_limit=100_000)
    in_turns(stack, before, 20, exact_body())
    stack.server.freeze()
    try:
        in_turns(stack, before, 20, exact_body(), workers=2)
    finally:
        stack.server.thaw()
    told = at_once(stack, stack.key("after", rpm_limit=60), 200, exact_body())
    return f"{told.codes[200] - 60:+d}"


def on_a_cluster(stack: Stack) -> str:
    """The report: such a request fails, as a script gets keys of several slots. The limit of a key for a model binds,
    beside those of its user and team: these may lie on all three nodes."""
    settings = {"user_id": "ann", "user_rpm_limit": 5_000, "team_id": "research", "team_rpm_limit": 5_000}
    key = stack.key("cluster", rpm_limit=5_000, metadata={"model_rpm_limit": {"spare": 60}}, **settings)
    # No other model is tried in its place.
    told = at_once(stack, key, 200, exact_body("spare"))
    failed = told.codes.total() - told.codes[200] - told.codes[429]
    log = "".join(proxy.text() for proxy in stack.proxies)
    errors = sum(log.count(text) for text in ("CROSSSLOT", "must map to the same key slot", "falling back"))
    return f"{told.codes[200] - 60:+d}; {failed} failed; {errors} errors in the log"


def calls(stack: Stack) -> int:
    """Also those within scripts, but not this program's own."""
    with stack.server.admin() as admin:
        stats = admin.info("commandstats")
    ignored = ("info", "ping", "client", "hello", "select", "flushall", "gw.describe", "gw.keepalive", "keys")
    names = {name.removeprefix("cmdstat_").partition("|")[0]: name for name in stats}
    return sum(int(stats[full]["calls"]) for name, full in names.items() if name.lower() not in ignored)


CASES: list[tuple[str, Case]] = [
    ("200 at once, 60 a minute: requests above the limit (#26672, #34732)", requests_above_the_limit),
    ("200 at once, 1,000 tokens a minute: tokens above the limit (#40291, #27736)", tokens_above_the_limit),
    ("200 at once, 2.02 dollars: dollars above the budget (#26672, #33325)", dollars_above_the_budget),
    ("200 at once, 10 at a time: above the limit (#27639)", at_a_time_above_the_limit),
    ("5 cancelled streams: slots left held after 5 s (#30020, #37558)", slots_after_cancelled_streams),
    # The last three: LiteLLM's own limiter counts in its memory for a while afterwards.
    ("The server paused for 5 s: 99th percentile longer by; longest (#35273, #40620)", waits_while_paused),
    ("200 at once after a pause, 60 a minute: requests above the limit", above_the_limit_after_a_pause),
    ("The server killed for 5 s: 99th percentile longer by; longest (#24181, #34299)", waits_while_dead),
]


# With routing on, which the others do not have.
OF_DEPLOYMENTS: list[tuple[str, Case]] = [
    ("20 at once, deployments with 3 a minute: above the limit (#5783, #33032)", above_the_limits_of_deployments),
]


ON_A_CLUSTER: list[tuple[str, Case]] = [
    ("A cluster of 3, 200 at once, 60 a minute for a model: above the limit (#15066)", on_a_cluster),
]


def run(cases: list[tuple[str, Case]], ours: bool, **more: Any) -> list[str]:
    stack = Stack(replicas=2, **more)
    found: list[str] = []
    try:
        for name, case in cases:
            fresh(stack)
            found.append(case(stack))
            print(f"{'redis-gateway' if ours else 'LiteLLM'}: {name}: {found[-1]}", file=sys.stderr)
    finally:
        stack.close()
    return found


# What they run with: LiteLLM's own limiter, and redis-gateway.
PARTS: list[tuple[list[tuple[str, Case]], dict[str, Any], dict[str, Any]]] = [
    (CASES, OWN, {"redis_gateway": {"instances": 2}}),
    (
        OF_DEPLOYMENTS,
        {**OWN, "router_settings": OWN_ROUTER},
        {"redis_gateway": {"instances": 2, "routing": "ROOM", "allowed_failures": 0}},
    ),
    (ON_A_CLUSTER, {**OWN, "cluster": True}, {"redis_gateway": {"instances": 2}, "cluster": True}),
]


def main() -> None:
    asked = sys.argv[1:]
    parts = [([case for case in cases if not asked or case[1].__name__ in asked], *both) for cases, *both in PARTS]
    print("| | LiteLLM's own limiter | redis-gateway |\n|---|---|---|")
    for cases, own, ours in parts:
        if not cases:
            continue
        found = zip(cases, run(cases, False, **own), run(cases, True, **ours), strict=True)
        for (name, _), one, other in found:
            print(f"| {name} | {one} | {other} |", flush=True)


if __name__ == "__main__":
    main()
