"""The application's client: any decode setting, RESP2 and RESP3, TLS, ACL users, clusters, Sentinel."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis

from redis_gateway import AsyncGateway, Away, Kept, NoPermission, NotAuthenticated, Settings, Unavailable
from redis_gateway._async import transport
from redis_gateway._commands import requests
from redis_gateway.deliveries import Delivery
from redis_gateway.testing import FakeRedis
from servers import Server, cluster, eventually, free_port, missing

from ._runtime import (
    aio_client,
    aio_cluster,
    aio_sentinel,
    gateway_of,
    in_thread,
    sleep,
    together,
    until,
)

OPEN = Away(limits="open", slots="open", budgets="open", admission="open")


async def all_parts(client: Any) -> None:
    """A call of each part, with keys and values of any bytes."""
    key = b"\xff{a}\x00".decode("utf-8", "surrogateescape")
    async with gateway_of(client) as gateway:
        await gateway.commands.policy_put(key, '{"policies":[{"name":"rpm","kind":"window","limit":2,"per_ms":60000}]}')
        async with await gateway.admit([key, "{a}"], {"tokens": 1, "usd": "0.1"}) as admission:
            assert admission.outcome == "admitted" and admission.rows[0].account == key
            assert admission.headers()["x-ratelimit-limit-requests"] == "2"
        assert admission.settlement.outcome == "settled"
        cache = gateway.cache("chat", encode=bytes, decode=bytes)

        async def compute() -> bytes:
            return b"\xff\x00value"

        assert [await cache.get_or_compute({"a": 1}, compute) for _ in range(2)] == [b"\xff\x00value"] * 2
        assert sum(figures.hits for figures in await cache.figures()) >= 1
        async with await gateway.lock("l", wait=1) as lock:
            assert lock.ok
        logs = gateway.logs("log", as_json=False)
        logs.push(b"\xff\x00")
        assert await logs.flush()
        assert await gateway.commands.log_peek("log") == (b"\xff\x00",)
        assert (await gateway.allow("k", 1)).ok
        assert await gateway.budgets.spent(key) == Decimal("0.1")
        assert (await gateway.commands.describe(key)) is not None
        assert "admit_admitted" in await gateway.commands.stats()
        assert (await gateway.health()).ok


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("protocol", [2, 3])
async def test_protocols_and_decoding(server: Server, protocol: int, decode: bool) -> None:
    await all_parts(aio_client(server.port, protocol=protocol, decode_responses=decode))


async def test_users(own_server: Server) -> None:
    own_server.run("ACL SETUSER gw on >secret ~a* +gw.allow +gw.policyset")
    own_server.run("ACL SETUSER default >word")
    async with gateway_of(aio_client(own_server.port, username="gw", password="secret")) as gateway:
        assert (await gateway.allow("a", 1)).ok
        with pytest.raises(NoPermission):
            await gateway.allow("b", 1)
    async with gateway_of(aio_client(own_server.port)) as gateway:
        with pytest.raises(NotAuthenticated):
            await gateway.allow("a", 1)


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    if missing():
        pytest.skip(str(missing()))
    where = tmp_path_factory.mktemp("tls")
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "1", "-subj", "/CN=localhost"),
            *(
                "-addext",
                "subjectAltName=DNS:localhost,IP:127.0.0.1",
                "-keyout",
                str(where / "key"),
                "-out",
                str(where / "cert"),
            ),
        ],
        capture_output=True,
    )
    if made.returncode:
        pytest.skip("there is no openssl to make a certificate")
    port = free_port()
    files = ["--tls-cert-file", str(where / "cert"), "--tls-key-file", str(where / "key"), "--tls-auth-clients", "yes"]
    try:
        server = Server("--tls-port", str(port), "--tls-ca-cert-file", str(where / "cert"), *files)
    except AssertionError as error:
        if "Failed finding TLS support" in str(error):
            pytest.skip("this server was built without TLS")
        raise
    server.tls_port = port
    yield server, where
    server.close()


def tls_client(server: Server, files: Path) -> Any:
    """A client that checks the server's certificate, and shows its own."""
    names = {"ssl_ca_certs": "cert", "ssl_certfile": "cert", "ssl_keyfile": "key"}
    options = {option: str(files / name) for option, name in names.items()}
    return aio_client(server.tls_port, host="localhost", ssl=True, **options)


async def test_tls(tls_server: tuple[Server, Path]) -> None:
    server, files = tls_server
    server.run("FLUSHALL")
    await all_parts(tls_client(server, files))


async def test_tls_under_load(tls_server: tuple[Server, Path]) -> None:
    """Connections are killed meanwhile, in the middle of whatever they do: nothing is doubled, lost or held."""
    server, files = tls_server
    server.run("FLUSHALL")
    for policy in ("month BUDGET 1000000 MONTH", "all WINDOW 1000000 PER 3600000", "parallel INFLIGHT 1000"):
        server.run(f"GW.POLICYSET {{a}} {policy}")
    settings = Settings(away=OPEN, kept=Kept(every=0.1), timeout=5, connect_timeout=5, failures=1000)
    outcomes: list[str] = []
    async with gateway_of(tls_client(server, files), settings) as gateway:

        async def worker(name: int) -> None:
            for at in range(30):
                async with await gateway.admit("{a}", {"usd": "5"}) as admission:
                    await sleep(0.002)
                    admission.use(usd="0.01")
                outcomes.append(admission.outcome)
                await gateway.budgets.charge("{a}:extra", "1", id=f"{name}:{at}")

        async def kills() -> None:
            for served in range(15, 300, 30):
                await until(lambda served=served: len(outcomes) >= served)
                server.run("CLIENT KILL TYPE normal SKIPME yes")

        failed = [one for one in await together(kills, *[lambda name=name: worker(name) for name in range(10)]) if one]
        assert not failed
        await until(lambda: gateway.kept == 0)
    flat = server.run("GW.DESCRIBE {a}")
    assert isinstance(flat, list)
    state = dict(zip(flat[::2], flat[1::2], strict=True))
    assert (state["in_flight"], state["leases"]) == (0, [])
    # One that was let through without the server may not have been counted.
    assert outcomes.count("admitted") <= state["counts"][state["counts"].index("all") + 1] <= len(outcomes) == 300
    assert Decimal(str(server.run("GW.SPENT {a}"))) == Decimal("3")
    assert server.run("GW.SPENT {a}:extra") == "300"


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Server]]:
    if missing():
        pytest.skip(str(missing()))
    servers = cluster(3)
    yield servers
    for server in servers:
        server.close()


def flushed(nodes: list[Server]) -> list[Server]:
    for node in nodes:
        node.run("FLUSHALL")
    return nodes


async def test_cluster(nodes: list[Server]) -> None:
    await all_parts(aio_cluster(flushed(nodes)))


async def test_accounts_in_several_slots(nodes: list[Server]) -> None:
    """Admitted slot by slot, and undone where one refuses."""
    flushed(nodes)
    accounts = [f"account:{at}" for at in range(6)]
    async with gateway_of(aio_cluster(nodes)) as gateway:
        document = (
            '{"policies":[{"name":"rpm","kind":"window","limit":%d,"per_ms":3600000},'
            '{"name":"parallel","kind":"inflight","max":9},{"name":"month","kind":"budget","amount":"9","period":"month"}]}'
        )
        for at, account in enumerate(accounts):
            await gateway.commands.policy_put(account, document % (1 if at == 4 else 5))
        async with await gateway.admit(accounts, {"usd": 1}) as admission:
            assert admission.ok and len({row.account for row in admission.rows}) == 6
            admission.use(usd="0.5")
        refused = await gateway.admit(accounts, {"usd": 1})
        assert (refused.reason, [row.account for row in refused.refusals]) == ("limit", ["account:4"])
        assert await refused.settle() is not None
        for account in accounts:
            state: Any = await gateway.commands.describe(account)
            assert (state.in_flight, state.leases, state.counts["rpm"]) == (0, (), 1), account
            assert await gateway.budgets.spent(account) == Decimal("0.5")


async def test_targets_in_several_slots(nodes: list[Server]) -> None:
    flushed(nodes)
    targets = [f"target:{at}" for at in range(4)]
    async with gateway_of(aio_cluster(nodes)) as gateway:
        for target in targets[1:]:
            await gateway.commands.policy_put(target, '{"policies":[{"name":"f","kind":"inflight","max":1}]}')
        attempts = [await gateway.route(targets, {"tokens": 1}) for _ in range(4)]
        assert sorted(attempt.target for attempt in attempts) == ["", *targets[1:]]
        for attempt in attempts:
            await attempt.settle()


@pytest.mark.parametrize("refuses", [False, True])
async def test_requests_whose_accounts_and_targets_are_anywhere(nodes: list[Server], refuses: bool) -> None:
    flushed(nodes)
    async with gateway_of(aio_cluster(nodes)) as gateway:
        flight = '{"policies":[{"name":"f","kind":"inflight","max":9}]}'
        document = flight.replace("9", "0") if refuses else flight
        for at in range(9):
            accounts, targets = [f"{{a{at}}}:key", f"{{a{at}}}"], [f"{{t{at}}}:eu", f"{{t{at}}}:us"]
            for key in (*accounts, *targets):
                await gateway.commands.policy_put(key, document if key == accounts[1] else flight)
            async with await gateway.request(accounts, targets, {"usd": 1}, pick="FIRST") as request:
                assert request.ok != refuses
                if request.ok:
                    async for attempt in request.attempts():
                        async with attempt:
                            attempt.use(usd="0.5")
            spent = [str(await gateway.budgets.spent(key)) for key in (*accounts, *targets)]
            assert spent == (["0"] * 4 if refuses else ["0.5"] * 3 + ["0"])
            for key in targets:
                state: Any = await gateway.commands.describe(key)
                assert (state.in_flight, state.leases) == (0, ())


async def test_slots_that_move(nodes: list[Server]) -> None:
    """Under load, nothing is doubled and nothing is lost."""
    flushed(nodes)
    keys = [f"moving:{at}" for at in range(12)]
    async with gateway_of(aio_cluster(nodes)) as gateway:
        stop, charged = False, dict.fromkeys(keys, 0)

        async def worker(name: int) -> None:
            while not stop:
                for key in keys[name::4]:
                    assert (await gateway.budgets.charge(key, 1)).outcome == "settled"
                    charged[key] += 1

        async def moves() -> None:
            nonlocal stop
            try:
                for key in keys[:6]:
                    await in_thread(move_slot, nodes, key)
                    await sleep(0.05)
            finally:
                stop = True

        failed = [one for one in await together(moves, *[lambda at=at: worker(at) for at in range(4)]) if one]
        assert not failed
        assert {key: int(await gateway.budgets.spent(key)) for key in keys} == charged


def move_slot(nodes: list[Server], key: str) -> None:
    slot = nodes[0].run(f"CLUSTER KEYSLOT {key}")
    ids = [str(node.run("CLUSTER MYID")) for node in nodes]
    owner = next(at for at, node in enumerate(nodes) if owns(node, ids[at], int(str(slot))))
    target = (owner + 1) % len(nodes)
    nodes[target].run(f"CLUSTER SETSLOT {slot} IMPORTING {ids[owner]}")
    nodes[owner].run(f"CLUSTER SETSLOT {slot} MIGRATING {ids[target]}")
    while found := nodes[owner].run(f"CLUSTER GETKEYSINSLOT {slot} 100"):
        assert isinstance(found, list)
        with nodes[owner].admin() as admin:
            admin.execute_command("MIGRATE", "127.0.0.1", nodes[target].port, "", 0, 5000, "KEYS", *found)
    for at in (target, owner, (owner + 2) % len(nodes)):
        nodes[at].run(f"CLUSTER SETSLOT {slot} NODE {ids[target]}")


def owns(node: Server, own_id: str, slot: int) -> bool:
    found = node.run("CLUSTER SLOTS")
    assert isinstance(found, list)
    return any(first <= slot <= last and primary[2] == own_id for first, last, primary, *_ in found)


async def test_a_node_that_is_dead_does_not_hold_up_the_others(nodes: list[Server]) -> None:
    flushed(nodes)
    keys = [f"k:{at}" for at in range(30)]
    async with gateway_of(aio_cluster(nodes), Settings(away=OPEN, timeout=1)) as gateway:
        assert all([(await gateway.allow(key, 100)).outcome == "admitted" for key in keys])
        with nodes[0].frozen():
            outcomes: dict[str, str] = {}
            for key in keys:
                outcomes[key] = (await gateway.allow(key, 100)).outcome
            assert set(outcomes.values()) == {"admitted", "degraded"}
            started = time.monotonic()
            again = {key: (await gateway.allow(key, 100)).outcome for key in keys}
            assert again == outcomes
            assert time.monotonic() - started < 8


async def test_what_is_kept_for_a_silent_node_holds_up_nothing_for_the_others(nodes: list[Server]) -> None:
    flushed(nodes)
    settings = Settings(timeout=1, connect_timeout=5, kept=Kept(every=3600))
    async with gateway_of(aio_cluster(nodes), settings) as gateway:
        core = gateway._core
        await core.background.everywhere(requests.stats())  # It knows the nodes now.

        def for_silent(charge: Delivery) -> bool:
            return bool(core.background.node_of(charge.words) == ("127.0.0.1", nodes[0].port))

        charges = [Delivery(["GW.ADDCOST", f"k:{at}", "1", "ID", "1"]) for at in range(600)]
        # More than a batch of them comes first.
        charges.sort(key=for_silent, reverse=True)
        for charge in charges:
            core.kept.add(charge)
        count = sum(map(for_silent, charges))
        assert 100 < count < 300
        with nodes[0].frozen():
            assert await gateway.send_kept() == 600 - count
        assert await gateway.send_kept() == count


class Node:
    """A node of a cluster that answers nothing at first; and nobody hears of that before `heard`."""

    def __init__(self, fake: Any, heard: list[bool]) -> None:
        self.fake = fake
        self.heard = heard
        self.answers = False
        self.asked = 0
        self.used_at = 0.0
        self.circuit, self.address = fake.circuit, fake.address

    async def ask(self, commands: Any, *, waiting: bool = False) -> Any:
        if commands[0][0] == b"CLUSTER":
            self.asked += 1
            await until(lambda: self.heard)
            if self.answers:
                return [[[0, 16383, [b"n0", 1]]]]
        if not self.answers:
            raise Unavailable("timeout", sent=True)
        return await self.fake.ask(commands)

    async def aclose(self) -> None:
        return None


async def test_a_cold_start_with_dead_nodes_costs_no_more_than_another_call() -> None:
    settings = Settings(away=OPEN, timeout=0.05, connect_timeout=0.05, failures=2, pause=3600)
    async with AsyncGateway(FakeRedis(), settings) as gateway:
        own: Any = gateway._core.transport
        fake, own._alone, own.cluster = own._alone, None, True
        own._remapped = lambda host, port: (host, port)
        own._seeds = [(f"n{at}", 1) for at in range(20)]
        heard: list[bool] = []
        nodes = [Node(fake, heard) for _ in own._seeds]
        own._servers = dict(zip(own._seeds, nodes, strict=True))
        decisions = await together(*[lambda: gateway.allow("k", 1)] * 5)
        # Nobody has waited until it is known that a node does not answer. One was asked, for all.
        assert [decision.reason for decision in decisions] == ["timeout"] * 5
        assert sum(node.asked for node in nodes) == 1
        heard.append(True)
        await gateway._core.tasks.finish(20)
        assert [node.asked for node in nodes] == [1] * 20
        await gateway.allow("k", 1)
        await gateway._core.tasks.finish(20)
        assert (await gateway.allow("k", 1)).reason == "circuit_open"
        assert [node.asked for node in nodes] == [2] * 20
        for node in nodes:
            node.answers = True
        own._map._retry_at = 0.0  # The pause is over.

        async def admitted() -> bool:
            return bool((await gateway.allow("k", 1000)).outcome == "admitted")

        await until(admitted)
        own._alone, own.cluster = fake, False


async def test_nodes_that_have_left_are_forgotten(nodes: list[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    flushed(nodes)
    async with gateway_of(aio_cluster(nodes)) as gateway:
        await gateway.allow("k", 5)
        own = gateway._core.transport
        left, used = own._server(("127.0.0.1", 1)), own._server(("127.0.0.1", 2))
        left.used_at = float("-inf")
        monkeypatch.setattr(transport, "LEFT_S", 0.0)
        await own._refresh()
        await gateway.allow("k", 5)
        await until(lambda: left not in own.servers())
        # It was used a moment ago: somebody may wait for its reply.
        assert used in own.servers()
        assert (await gateway.allow("k", 5)).outcome == "admitted"


class Watched:
    """A primary, its replica, and a sentinel."""

    def __init__(self) -> None:
        self.servers = [Server(), Server()]
        self.servers[1].run(f"REPLICAOF 127.0.0.1 {self.servers[0].port}")
        eventually(lambda: "master_link_status': 'up" in str(self.servers[1].run("INFO replication")))
        self.sentinel = Server(with_module=False, sentinel=True)
        for command in (
            f"SENTINEL MONITOR gw 127.0.0.1 {self.servers[0].port} 1",
            "SENTINEL SET gw down-after-milliseconds 500",
            "SENTINEL SET gw failover-timeout 3000",
        ):
            self.sentinel.run(command)
        eventually(lambda: "'num-slaves': 1" in str(self.sentinel.run("SENTINEL MASTER gw")) or self.replicas() == "1")

    def replicas(self) -> str:
        found = self.sentinel.run("SENTINEL MASTER gw")
        if isinstance(found, list):
            return str(found[found.index("num-slaves") + 1])
        assert isinstance(found, dict)
        return str(found["num-slaves"])

    def close(self) -> None:
        for server in (self.sentinel, *self.servers):
            server.close()


async def test_sentinel_failover(tmp_path: Path) -> None:
    """The primary dies under load: charges go on, and those made meanwhile arrive once."""
    if missing():
        pytest.skip(str(missing()))
    watched = Watched()
    try:
        settings = Settings(away=OPEN, kept=Kept(every=0.1), timeout=1, pause=0.2)
        async with gateway_of(aio_sentinel("gw", watched.sentinel.port), settings) as gateway:
            charged, stop = 0, False

            async def worker() -> None:
                nonlocal charged
                while not stop:
                    await gateway.budgets.charge("l", 1)
                    charged += 1
                    await sleep(0.002)

            async def failover() -> None:
                nonlocal stop
                try:
                    await sleep(0.3)
                    # What the primary has acknowledged is on the replica before it dies.
                    await in_thread(watched.servers[0].run, "CLIENT PAUSE 60000 WRITE")
                    await until(lambda: len({str(server.run("GW.SPENT l")) for server in watched.servers}) == 1)
                    await in_thread(watched.servers[0].stop)
                    await until(lambda: role(watched.servers[1]) == "master")
                    await sleep(1)
                finally:
                    stop = True

            failed = [one for one in await together(failover, worker) if one]
            if failed:
                raise failed[0]
            await until(lambda: gateway.kept == 0)
            assert watched.servers[1].run("GW.SPENT l") == str(charged)
    finally:
        watched.close()


async def test_sentinels_that_do_not_answer_hold_up_nobody(own_server: Server) -> None:
    """They stand before the one that does, as black holes: packets to them are lost, or nothing comes back."""
    sentinel = Server(with_module=False, sentinel=True)
    with contextlib.ExitStack() as stack:
        stack.callback(sentinel.close)
        sentinel.run(f"SENTINEL MONITOR gw 127.0.0.1 {own_server.port} 1")
        silent = [stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0)) for _ in range(3)]
        for listening in silent[:2]:
            # With so many that wait to be accepted, it takes no more.
            for _ in range(4):
                one = stack.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(listening.getsockname())
        ports = [listening.getsockname()[1] for listening in silent]
        settings = Settings(away=OPEN, timeout=5, connect_timeout=5)
        async with gateway_of(aio_sentinel("gw", *ports, sentinel.port), settings) as gateway:
            started = time.monotonic()
            assert (await gateway.allow("k", 5)).outcome == "admitted"
            # One after another, they take 15 s.
            assert time.monotonic() - started < 5
            # The one that has answered dies: it is not asked for ever.
            pool = gateway._core.transport._alone._pool
            await pool.disconnect()
            other = Server(with_module=False, sentinel=True)
            stack.callback(other.close)
            other.run(f"SENTINEL MONITOR gw 127.0.0.1 {own_server.port} 1")
            sentinel.stop()
            pool.sentinel_manager._each.append(type(pool.sentinel_manager._each[0])([("127.0.0.1", other.port)]))
            assert (await gateway.allow("k", 5)).outcome == "admitted"


def role(server: Server) -> str:
    try:
        with server.admin() as admin:
            return str(admin.info("replication")["role"])
    except redis.ConnectionError:
        return ""  # Sentinel closes all connections of whom it promotes.


async def test_every_primary_is_asked(nodes: list[Server]) -> None:
    flushed(nodes)
    async with gateway_of(aio_cluster(nodes)) as gateway:
        cache = gateway.cache("chat")
        for at in range(20):
            await cache.set({"n": at}, at, tags=["all"])
        sizes = [node.run("DBSIZE") for node in nodes]
        assert all(sizes) and sum(map(int, map(str, sizes))) == 20
        assert len(await cache.figures()) == 3
        assert await cache.clear_tag("all") == 20
