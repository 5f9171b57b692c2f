"""The low level on a real server, in RESP2 and RESP3, and on replies that it does not know."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
import random
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
import redis_gateway._commands as low
from redis_gateway._commands import (
    AsyncCommands,
    CommandInfo,
    Commands,
    Request,
    UnexpectedReply,
    WindowPolicy,
    requests,
)
from redis_gateway._errors import NoAccount, error_of
from vectors import Connection, ErrorReply, Server, converted

T = TypeVar("T")
Make = Callable[..., Request[Any]]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def connection(server: Server, request: pytest.FixtureRequest) -> Iterator[Connection]:
    with server.connect(request.param) as connection:
        connection.call("FLUSHALL")
        yield connection


@pytest.fixture(params=[False, True], ids=["bytes", "decoded"])
def gateway(connection: Connection, request: pytest.FixtureRequest) -> Commands:
    def execute(*args: Any) -> object:
        try:
            return converted(connection.call(*args), request.param)
        except ErrorReply as error:
            raise error_of(error.text) from None

    return Commands(execute)


def test_a_request_from_admission_to_settlement(gateway: Commands) -> None:
    assert gateway.policy_set("user:42", "rpm", WindowPolicy(limit=2, window_ms=60_000))
    first = gateway.admit("user:42", lease_id="1", ttl_ms=30_000)
    assert first.admitted
    assert [(row.account, row.policy, row.remaining) for row in first.rows] == [("user:42", "rpm", 1)]
    assert gateway.admit(["user:42", "user:42:none"], lease_id="2", ttl_ms=30_000, rows="NONE").admitted
    denied = gateway.admit(["user:42"], lease_id="3", ttl_ms=30_000, rows="REFUSED")
    assert not denied.admitted
    assert denied.retry_after_ms > 0
    assert gateway.settle("user:42", lease_id="1", amounts={"requests": 0, "usd": "0.5"}) == "SETTLED"
    assert gateway.settle("user:42", lease_id="1") == "REPEATED"
    assert gateway.settle("user:42", lease_id="none") == "UNKNOWN"


def test_names_of_any_bytes_come_back_as_they_were(gateway: Commands) -> None:
    name = b"\xff\x00\r\n\x80"
    gateway.policy_set(name, name, WindowPolicy(limit=1, window_ms=60_000))
    (row,) = gateway.admit(name, lease_id=name, ttl_ms=1000).rows
    # What a reply says can be sent again.
    assert gateway.policy_del(row.account, row.policy)
    assert row.account.encode("utf-8", "surrogateescape") == name


def test_values_of_any_bytes(gateway: Commands) -> None:
    value = bytes(range(256))
    assert gateway.cache_set("chat:1", value)
    assert gateway.cache_get("chat:1") == value
    assert gateway.log_push("log", [value, b"", "é"]).length == 3
    assert gateway.log_pop("log", count=5) == (value, b"", "é".encode())


def test_one_value_is_not_taken_for_its_letters(gateway: Commands) -> None:
    assert gateway.log_push("log", "abc").length == 1
    assert gateway.cache_set("abc", "v", tags="abc")
    assert gateway.cache_list_tag(0, "abc").keys == ("abc",)
    assert gateway.cache_del("abc") == 1
    with pytest.raises(ValueError, match="key"):
        gateway.admit([], lease_id="1", ttl_ms=1)


def test_errors_come_from_the_connection(gateway: Commands) -> None:
    with pytest.raises(NoAccount) as caught:
        gateway.admit("none", lease_id="1", ttl_ms=1000, require=True)
    assert caught.value.account == "none"


def test_a_transaction_of_requests(connection: Connection) -> None:
    made: list[Request[Any]] = [requests.allow("k", 1), requests.add_cost("spend", "0.5"), requests.cache_get("none")]
    connection.call("MULTI")
    for request in made:
        connection.call(*request.args)
    replies = converted(connection.call("EXEC"), False)
    allowed, spent, cached = [request.decode(reply) for request, reply in zip(made, replies, strict=True)]
    assert (allowed.allowed, str(spent), cached) == (True, "0.5", None)


def test_run_can_be_overridden() -> None:
    class Repeating(Commands):
        def run(self, request: Request[T]) -> T:
            seen.append(request.args[0])
            return super().run(request)

    seen: list[object] = []
    assert Repeating(lambda *_: 1).log_len("q") == 1
    assert seen == ["GW.LOGLEN"]


def methods_of(kind: type) -> dict[str, Any]:
    return {name: method for name, method in vars(kind).items() if inspect.isfunction(method) and name[0] != "_"}


def test_both_classes_have_the_same_methods() -> None:
    waiting, awaited = methods_of(Commands), methods_of(AsyncCommands)
    assert waiting.keys() == awaited.keys()
    for name, method in waiting.items():
        assert inspect.iscoroutinefunction(awaited[name])
        assert str(inspect.signature(method)) == str(inspect.signature(awaited[name]))
        assert method.__doc__ == awaited[name].__doc__


def test_every_method_explains_its_parameters() -> None:
    for name, method in methods_of(Commands).items():
        if name == "run":
            continue
        described = [line.strip() for line in (method.__doc__ or "").splitlines()]
        for parameter in list(inspect.signature(method).parameters)[1:]:
            (line,) = [line for line in described if line.startswith(f"{parameter}: ")]
            assert "See the reference" not in line, (name, parameter)


def test_the_table_has_every_command() -> None:
    sent = {call_of(make).args[0] for make in methods_of_requests().values()}
    assert sent == set(low.COMMANDS)
    assert low.COMMANDS["GW.LOGPOP"] == CommandInfo("log", keyed=True, reads=False, waits=True, grows=False)


def methods_of_requests() -> dict[str, Make]:
    listed = vars(requests).items()
    return {name: make for name, make in listed if inspect.isfunction(make) and name in methods_of(Commands)}


SAMPLES: dict[str, Any] = {
    "int": 1,
    "Text": "x",
    "Amount": 1,
    "Period": "DAY",
    "HistoryPeriod": "DAY",
    "Text | Sequence[Text]": ["x"],
    "Text | Iterable[Text]": ["x"],
    "Iterable[tuple[Text, int]]": [("x", 1)],
    "Iterable[tuple[Amount, Period]]": [(1, "DAY")],
    "Policy": WindowPolicy(limit=1, window_ms=1),
}


def call_of(make: Make) -> Request[Any]:
    """A request with what it must have."""
    parameters = inspect.signature(make).parameters.values()
    needed = {one.name: SAMPLES[one.annotation] for one in parameters if one.default is inspect.Parameter.empty}
    return make(**needed)


ATOMS: list[Any] = [
    None,
    True,
    0,
    1,
    -1,
    2**62,
    0.5,
    "",
    "OK",
    "HIT",
    "1.5",
    b"",
    b"OK",
    b"MISS",
    b"\xff",
    b"type",
    b"1e5",
    object(),
]


def anything(random: random.Random, depth: int) -> Any:
    """A reply of any shape."""
    if depth == 0 or random.random() < 0.4:
        return random.choice(ATOMS)
    items = [anything(random, depth - 1) for _ in range(random.choice([0, 1, 2, 3, 5, 7, 8, 11]))]
    if random.random() < 0.3:
        return {random.choice([b"type", "type", b"hits", "x"]): item for item in items}
    return items


@pytest.mark.parametrize("name", sorted(methods_of_requests()))
def test_a_reply_of_another_shape_is_refused_or_read(name: str) -> None:
    request = call_of(methods_of_requests()[name])
    generator = random.Random(name)
    for _ in range(500):
        with contextlib.suppress(UnexpectedReply):
            request.decode(anything(generator, 3))


def test_what_later_servers_add_is_ignored() -> None:
    assert requests.allow("k", 1).decode([1, 2, 1, 0, 5, b"new"]).reset_after_ms == 5
    total = requests.cache_stats_total()
    names = [field.name for field in dataclasses.fields(low.CacheFigures)]
    figures: dict[str, object] = {**dict.fromkeys(names, 1), "hit_rate": "0.5", "saved": "2", "new": [1]}
    assert total.decode(figures).saved == 2
    with pytest.raises(UnexpectedReply, match="hits"):
        total.decode({name: value for name, value in figures.items() if name != "hits"})


def test_an_awaited_error_is_raised() -> None:
    async def execute(*args: object) -> object:
        raise error_of("NOHOLD none")

    with pytest.raises(low_error := type(error_of("NOHOLD none"))):
        asyncio.run(AsyncCommands(execute).cancel("k", "h"))
    assert low_error.__name__ == "NoHold"
