"""What must arrive: neither lost nor sent twice, whatever the server, the disk and the clock do."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import redis.exceptions

from redis_gateway import AsyncGateway, Away, Kept, Settings, Unavailable
from redis_gateway.deliveries import Delivery, KeptDeliveries
from redis_gateway.testing import FakeRedis
from servers import Proxy, Server

from ._runtime import gateway_on, until

# Nothing is sent in the background while a test looks.
QUIET = Settings(timeout=10, connect_timeout=10, away=Away(admission="open", budgets="open"), kept=Kept(every=3600))
LOST = Unavailable("connection", sent=True)
REFUSED = Unavailable("connection", sent=False)
REFUSALS = [
    redis.exceptions.AuthenticationError("WRONGPASS invalid username-password pair"),
    redis.exceptions.NoPermissionError("User x has no permissions to run the 'gw.addcost' command"),
    redis.exceptions.ResponseError("NOAUTH Authentication required."),
    redis.exceptions.ResponseError("unknown command 'GW.ADDCOST', with args beginning with: 'l'"),
    redis.exceptions.ResponseError("internal error: a bug"),
]


class Scripted:
    """A server that replies or raises what it is told, and then asks the fake."""

    def __init__(self, gateway: Any) -> None:
        self.fake = gateway._core.transport._alone
        self.circuit, self.address = self.fake.circuit, self.fake.address
        self.script: list[Any] = []
        self.seen: list[bytes] = []
        gateway._core.transport._alone = gateway._core.background._alone = self

    async def ask(self, commands: Sequence[Sequence[bytes]], *, waiting: bool = False) -> list[Any]:
        self.seen += [b" ".join(command) for command in commands]
        answer = self.script.pop(0) if self.script else None
        if isinstance(answer, Exception):
            raise answer
        return answer if answer is not None else await self.fake.ask(commands, waiting=waiting)

    async def aclose(self) -> None:
        return None


def left_by_another(directory: Path, *deliveries: Delivery) -> Path:
    """The file of a process that is gone."""
    kept = KeptDeliveries(100, directory)
    for delivery in deliveries:
        kept.add(delivery)
    kept.close()
    return next(iter(directory.glob("*.jsonl")))


def charge(number: int, first_sent: float | None = None) -> Delivery:
    return Delivery(["GW.ADDCOST", "l", "1", "ID", f"charge {number}"], first_sent=first_sent, id=f"{number}")


def settlement(age: float) -> Delivery:
    """A settlement that the server does not know, and that may have arrived `age` seconds ago."""
    return Delivery(
        ["GW.SETTLE", "l", "LEASE", "old"], [["GW.ADDCOST", "l", "1", "ID", "old"]], first_sent=time.time() - age
    )


# A node that is not the primary any more.


async def test_a_node_that_was_demoted_is_left(own_server: Server) -> None:
    other = Server()
    try:
        with Proxy(own_server.port) as proxy:
            async with gateway_on(proxy.port, dataclasses.replace(QUIET, failures=100)) as gateway:
                await gateway.allow("k", 5)
                own_server.run("REPLICAOF 127.0.0.1 1")
                proxy.target = other.port
                assert (await gateway.allow("k", 5)).reason == "readonly"
                # It connects anew, and the address leads to the new primary.
                assert (await gateway.allow("k", 5)).outcome == "admitted"
    finally:
        other.close()


# Two tries.


async def test_a_second_try_does_not_hide_the_first() -> None:
    async with AsyncGateway(FakeRedis(), QUIET) as gateway:
        server = Scripted(gateway)
        for second in (REFUSED, [redis.exceptions.ReadOnlyError("You can't write against a read only replica.")]):
            server.script[:] = [LOST, second]
            admission = await gateway.admit("k", {"usd": "1"})
            assert (admission.outcome, admission._groups[0].state) == ("degraded", "maybe")
            await admission.settle()
            assert server.seen[-2 if b"ADDCOST" in server.seen[-1] else -1].startswith(b"GW.SETTLE")
            server.script[:] = [LOST, second]
            with pytest.raises(Unavailable) as error:
                await gateway.commands.add_cost("l", "1", id="x")
            assert error.value.sent
        server.script[:] = [REFUSED, REFUSED]
        with pytest.raises(Unavailable) as error:
            await gateway.commands.add_cost("l", "1", id="x")
        assert not error.value.sent


async def test_a_lost_settlement_is_remembered_as_sent() -> None:
    async with AsyncGateway(FakeRedis(), QUIET) as gateway:
        server = Scripted(gateway)
        server.script[:] = [LOST, REFUSED]
        assert (await gateway.budgets.charge("l", 1)).outcome == "kept"
        assert gateway._core.kept.first(1)[0].first_sent is not None
        server.script[:] = [REFUSED, REFUSED]
        assert (await gateway.budgets.charge("l", 1)).outcome == "kept"
        assert gateway._core.kept.first(2)[1].first_sent is None


# Refusals that are not about what was sent.


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: str(refusal)[:12])
async def test_what_the_server_refuses_for_now_is_kept(refusal: Exception) -> None:
    async with AsyncGateway(FakeRedis(), QUIET) as gateway:
        server = Scripted(gateway)
        at_login = isinstance(refusal, redis.exceptions.AuthenticationError)
        answer = refusal if at_login else [refusal]
        server.script[:] = [answer]
        assert (await gateway.budgets.charge("l", 1)).outcome == "kept"
        server.script[:] = [answer]
        assert await gateway.send_kept() == 0
        assert gateway.kept == 1
        logs = gateway.logs("q", every=3600)
        logs._running = True  # It pushes when this test says so.
        logs.push({"id": 1})
        server.script[:] = [answer]
        assert not await logs.flush()
        assert (len(logs), logs.dropped) == (1, 0)
        assert await logs.flush()
        assert await gateway.send_kept() == 1
        assert str(await gateway.budgets.spent("l")) == "1"


async def test_a_lease_is_not_lost_because_a_password_changes() -> None:
    async with AsyncGateway(FakeRedis(), dataclasses.replace(QUIET, lease_ttl=0.3)) as gateway:
        server = Scripted(gateway)
        admission = await gateway.admit("k", {"usd": "1"})
        server.script[:] = [REFUSALS[0]]
        await until(lambda: gateway.figures().get("keep_alive_failed"))
        assert not admission.lost
        await admission.settle()


async def test_a_cluster_that_refuses_the_login_loses_nothing() -> None:
    async with AsyncGateway(FakeRedis(), QUIET) as gateway:
        server = Scripted(gateway)
        transport = gateway._core.transport
        # It has not been asked for its slots yet.
        transport._alone, transport.cluster = None, True
        transport._seeds, transport._servers = [("x", 1)], {("x", 1): server}
        server.script[:] = [REFUSALS[0], REFUSALS[0]]
        assert (await gateway.budgets.charge("l", 1)).outcome == "kept"
        await gateway._core.tasks.finish(1)
        transport._alone, transport.cluster = server, False


# Age.


async def test_what_is_too_old_is_not_sent(tmp_path: Path) -> None:
    left_by_another(tmp_path, settlement(3400), charge(1, time.time() - 90_000), charge(2, time.time() - 3400))
    async with AsyncGateway(
        FakeRedis(), dataclasses.replace(QUIET, kept=Kept(every=3600, directory=tmp_path))
    ) as gateway:
        server = Scripted(gateway)
        await gateway.send_kept()
        gateway._core.kept.add(settlement(3400))
        await gateway.send_kept()
        assert [words.split()[:1] + words.split()[-1:] for words in server.seen] == [[b"GW.ADDCOST", b"2"]]
        assert (gateway.kept, gateway.figures()["kept_given_up"]) == (0, 3)
        assert (await gateway._core.deliver(settlement(3400))).outcome == "given_up"


async def test_what_a_busy_account_may_have_forgotten_is_not_booked() -> None:
    async with AsyncGateway(FakeRedis(), QUIET) as gateway:
        gateway._core.kept.add(settlement(700))
        await gateway.send_kept()
        assert (await gateway._core.deliver(settlement(700))).outcome == "given_up"
        assert str(await gateway.budgets.spent("l")) == "0"
        assert gateway.figures()["kept_given_up"] == 2
        assert (await gateway._core.deliver(settlement(60))).outcome == "charged"
        assert str(await gateway.budgets.spent("l")) == "1"


# The file.


async def test_the_file_does_not_grow_while_nothing_changes(tmp_path: Path) -> None:
    kept = KeptDeliveries(1000, tmp_path)
    for number in range(100):
        kept.add(charge(number))
    size = os.fstat(kept._file).st_size
    for _ in range(300):
        for delivery in kept.first(100):
            kept.later(delivery)
    assert os.fstat(kept._file).st_size == size
    # What changes is written, and the file is made anew now and then.
    for at in range(300):
        for delivery in kept.first(100):
            delivery.first_sent = float(at + 1)
            kept.later(delivery)
    assert os.fstat(kept._file).st_size < 110 * size
    kept.close()
    assert KeptDeliveries(1000, tmp_path).adopt() + 0 == 0  # All of them are too old.


async def test_a_full_disk_raises_nothing(tmp_path: Path) -> None:
    kept = KeptDeliveries(1000, tmp_path)
    kept.add(charge(1))
    (path,) = tmp_path.iterdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # There is room for a part of the next line.
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, before[1]))
    try:
        assert kept.add(charge(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert kept.add(charge(3))
    kept.later(kept.first(2)[1])  # It is tried again, and there is room now.
    kept.close()
    other = KeptDeliveries(1000, tmp_path)
    assert other.adopt() == 3
    assert sorted(delivery.id for delivery in other.first(10)) == ["1", "2", "3"]
    other.close()


async def test_no_directory_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = KeptDeliveries(10, tmp_path / "file")
    assert kept.add(charge(1))
    assert len(kept) == 1


async def test_half_a_line_spoils_no_other(tmp_path: Path) -> None:
    path = left_by_another(tmp_path, charge(1))
    path.write_text(path.read_text() + '{"id": "tr\n' + charge(2).line() + "\n")
    kept = KeptDeliveries(10, tmp_path)
    assert kept.adopt() == 2
    kept.close()


async def test_what_has_no_room_stays_on_the_disk(tmp_path: Path) -> None:
    path = left_by_another(tmp_path, *[charge(number) for number in range(5)])
    small = KeptDeliveries(2, tmp_path)
    assert (small.adopt(), len(small)) == (2, 2)
    assert path.exists()
    other = KeptDeliveries(10, tmp_path)
    assert other.adopt() == 3
    assert not path.exists()
    assert {delivery.id for delivery in (*small.first(9), *other.first(9))} == {"0", "1", "2", "3", "4"}
    small.close()
    other.close()


async def test_a_file_that_another_took_over_is_not_taken_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_by_another(tmp_path, charge(1))
    first, second = KeptDeliveries(10, tmp_path), KeptDeliveries(10, tmp_path)
    opened = Path.open

    def slow(path: Path, mode: str) -> Any:
        file = opened(path, mode)
        monkeypatch.setattr(Path, "open", opened)
        assert first.adopt() == 1  # Between the opening and the lock.
        return file

    monkeypatch.setattr(Path, "open", slow)
    assert second.adopt() == 0
    # A file is locked before others can see it.
    assert [path.suffix for path in tmp_path.iterdir()] == [".jsonl"]
    assert second.adopt() == 0
    first.close()


async def test_only_what_was_under_way_may_have_arrived(tmp_path: Path) -> None:
    path = left_by_another(tmp_path, charge(1))
    os.utime(path, (time.time() - 5000, time.time() - 5000))
    one = KeptDeliveries(10, tmp_path)
    one.adopt()
    assert one.first(1)[0].first_sent is None
    one.sending(True)
    one.close()
    two = KeptDeliveries(10, tmp_path)
    two.adopt()
    assert two.first(1)[0].first_sent is not None
    two.close()


async def test_a_sending_that_is_broken_off_may_have_arrived(tmp_path: Path) -> None:
    settings = dataclasses.replace(QUIET, kept=Kept(every=3600, directory=tmp_path))
    async with AsyncGateway(FakeRedis(), settings) as gateway:
        server = Scripted(gateway)
        gateway._core.kept.add(charge(1))
        server.script[:] = [ZeroDivisionError("a bug")]
        with pytest.raises(ZeroDivisionError):
            await gateway.send_kept()
        assert gateway._core.kept.first(1)[0].first_sent is not None


async def test_any_call_takes_over_what_was_left(tmp_path: Path) -> None:
    left_by_another(tmp_path, charge(1))
    settings = dataclasses.replace(QUIET, kept=Kept(directory=tmp_path, every=0.01))
    async with AsyncGateway(FakeRedis(), settings) as gateway:
        await gateway.budgets.charge("other", 1)
        await until(lambda: gateway.figures().get("kept_sent") == 1)
        assert str(await gateway.budgets.spent("l")) == "1"


# The end.


async def test_closing_settles_what_lives() -> None:
    fake = FakeRedis()
    async with AsyncGateway(fake, QUIET) as gateway:
        server = Scripted(gateway)
        admission = await gateway.admit("k", {"usd": "1"})
        admission.use(usd="0.25")
    assert server.seen[-2].startswith(b"GW.SETTLE k") and b"0.25" in server.seen[-2]
    assert admission.settlement.outcome == "kept"
    assert gateway.figures()["admissions_closed"] == 1


async def test_a_mistake_does_not_end_the_sending(caplog: pytest.LogCaptureFixture) -> None:
    async with AsyncGateway(FakeRedis(), dataclasses.replace(QUIET, kept=Kept(every=0.01))) as gateway:
        server = Scripted(gateway)
        server.script[:] = [REFUSED, REFUSED, ZeroDivisionError("a bug")]
        assert (await gateway.budgets.charge("l", 1)).outcome == "kept"
        await until(lambda: gateway.kept == 0)
        assert any("were not sent" in record.message for record in caplog.records)


async def test_a_collection_in_the_middle_of_anything_locks_nothing() -> None:
    async with AsyncGateway(FakeRedis(), QUIET) as gateway:
        admission = await gateway.admit("k", {"usd": "1"})
        circle = [admission]
        circle.append(circle)  # type: ignore[arg-type]
        del admission, circle
        with gateway._core._mutex, gateway._core.kept._lock:
            gc.collect()
        assert (len(gateway._core.leaked), gateway.kept) == (1, 0)
        await gateway.send_kept()
        assert gateway.figures()["admissions_leaked"] == 1
        assert json.loads(json.dumps(gateway.figures())) == gateway.figures()
