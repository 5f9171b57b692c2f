"""What only threads meet: an exception that comes from outside while they wait, such as KeyboardInterrupt."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from redis_gateway import Gateway, Kept, Settings
from servers import Server, eventually

SETTINGS = Settings(timeout=10, connect_timeout=10, kept=Kept(every=0.02))


class Interrupted:
    """A gateway whose next call can be interrupted: before it is sent, or when the server has answered."""

    def __init__(self, port: int, sent: bool) -> None:
        self.gateway = Gateway(redis.Redis(port=port), SETTINGS)
        self._sent = sent
        for transport in (self.gateway._core.transport, self.gateway._core.background):
            server: Any = transport._alone
            server._send_and_read = self._interruptible(server._send_and_read)
        self._armed = 0

    def _interruptible(self, exchange: Any) -> Any:
        def interruptible(*args: Any) -> Any:
            armed = self._armed == threading.get_ident()
            if armed:
                self._armed = 0
            if armed and not self._sent:
                raise KeyboardInterrupt
            replies = exchange(*args)
            if armed:
                raise KeyboardInterrupt
            return replies

        return interruptible

    def __call__(self, work: Any, *args: Any, **options: Any) -> None:
        self._armed = threading.get_ident()  # What runs in the background goes on.
        with pytest.raises(KeyboardInterrupt):
            work(*args, **options)


@pytest.fixture(params=[False, True], ids=["before it is sent", "before its reply"])
def interrupted(server: Server, request: pytest.FixtureRequest) -> Iterator[Interrupted]:
    made = Interrupted(server.port, request.param)
    yield made
    made.gateway.close()


def in_flight(server: Server, *accounts: str) -> list[int]:
    found: list[Any] = [server.run(f"GW.DESCRIBE {account}") for account in accounts]
    return [flat[flat.index("in_flight") + 1] for flat in found]


def policies(server: Server) -> None:
    for account in ("a", "t"):
        server.run(f"GW.POLICYSET {account} parallel INFLIGHT 5")
        server.run(f"GW.POLICYSET {account} month BUDGET 100 MONTH")


def test_a_question_is_undone(server: Server, interrupted: Interrupted) -> None:
    policies(server)
    gateway = interrupted.gateway
    interrupted(gateway.admit, "a", {"usd": 1})
    interrupted(gateway.route, ["t"], {"usd": 1})
    interrupted(gateway.request, "a", ["t"], {"usd": 1})
    eventually(lambda: in_flight(server, "a", "t") == [0, 0])
    assert [server.run(f"GW.SPENT {account}") for account in ("a", "t")] == ["0", "0"]


def test_a_settlement_arrives_once(server: Server, interrupted: Interrupted) -> None:
    policies(server)
    gateway = interrupted.gateway
    admission = gateway.admit("a", {"usd": 1})
    interrupted(admission.settle, usd="0.25")
    assert admission.settlement is not None and admission.settlement.outcome == "kept"
    hold = gateway.budgets.reserve("l", 1, [(10, "MONTH")])
    interrupted(hold.commit, "0.5")
    interrupted(gateway.budgets.charge, "l", 2)
    # Whatever is called next sees to it that they are sent.
    gateway.allow("k", 1)
    eventually(lambda: gateway.kept == 0)
    assert in_flight(server, "a") == [0]
    assert [server.run(f"GW.SPENT {ledger}") for ledger in ("a", "l")] == ["0.25", "2.5"]
    assert gateway.figures()["settlements{outcome=kept}"] == 1


def test_a_reservation_sets_nothing_aside(server: Server, interrupted: Interrupted) -> None:
    interrupted(interrupted.gateway.budgets.reserve, "l", 5, [(10, "MONTH")])
    eventually(lambda: server.run("GW.WITHINBUDGET l 10")[4] == "0")  # type: ignore[index]


@pytest.mark.parametrize("wait", [0, 5])
def test_an_acquire_leaves_nothing_taken(server: Server, interrupted: Interrupted, wait: float) -> None:
    interrupted(interrupted.gateway.lock, "l", wait=wait)
    eventually(lambda: server.run("GW.ACQUIRE l 1 another TTL 10")[0] == 1)  # type: ignore[index]


def test_a_release_is_sent_later(server: Server, interrupted: Interrupted) -> None:
    lock = interrupted.gateway.lock("l")
    interrupted(lock.release)
    interrupted.gateway.allow("k", 1)
    eventually(lambda: server.run("GW.ACQUIRE l 1 another TTL 10")[0] == 1)  # type: ignore[index]


def test_a_question_of_the_cache_gives_its_lease_up(server: Server, interrupted: Interrupted) -> None:
    cache = interrupted.gateway.cache("chat")
    interrupted(cache.get_or_compute, {"a": 1}, lambda: "answer")
    with Gateway(redis.Redis(port=server.port), dataclasses.replace(SETTINGS, waiting_timeout=20)) as other:
        assert other.cache("chat", wait=20).get_or_compute({"a": 1}, lambda: "other") == "other"
        assert "cache{result=pending}" not in other.figures()


def test_a_push_is_stored_once(server: Server, interrupted: Interrupted) -> None:
    logs = interrupted.gateway.logs("q", every=3600)
    logs._running = True  # Nothing runs in the background.
    logs.push({"id": 1})
    interrupted(logs.flush)
    assert logs._sending is not None and logs._sending.first_sent is not None
    assert logs.flush() and server.run("GW.LOGLEN q") == 1
