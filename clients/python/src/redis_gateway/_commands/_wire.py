"""What requests and replies are built of: values to arguments, and replies of any connection to values.

Replies are read alike whether the connection decodes strings or not, and whether it speaks RESP2 or RESP3. Names and
keys may be any bytes: they become `str` by UTF-8 with surrogate escapes, and the same bytes again when they are sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Generic, NoReturn, Protocol, TypeAlias, TypeVar, cast

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

#: A key, name or id: any bytes.
Text: TypeAlias = "str | bytes"
#: An amount of money or of any meter. A float is sent as its shortest text that reads as the same float.
Amount: TypeAlias = "Decimal | int | float | str"
#: What is handed to the connection.
Argument: TypeAlias = "str | bytes | int"


class UnexpectedReply(Exception):
    """A reply of a shape that this version of the client does not know."""

    def __init__(self, expected: str, reply: object) -> None:
        super().__init__(f"expected {expected}, got {type(reply).__name__}")
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Request(Generic[T_co]):
    """A command with its arguments, and how its reply is read."""

    #: The command's name, then its arguments.
    args: tuple[Argument, ...]
    #: Makes the typed result of the reply.
    decode: Callable[[object], T_co]
    #: Whether sending it again, after nobody knows whether it took effect, changes nothing more.
    repeatable: bool


class Execute(Protocol):
    """Sends a command and returns its reply, or raises an error."""

    def __call__(self, *args: Argument) -> object: ...


class AsyncExecute(Protocol):
    """The same, awaited."""

    def __call__(self, *args: Argument) -> Awaitable[object]: ...


def text_argument(value: Text) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")


def amount_argument(value: Amount) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def text_arguments(values: Text | Iterable[Text]) -> list[bytes]:
    """One value, or several: a `str` is never taken for a sequence of its letters."""
    if isinstance(values, (str, bytes)):
        return [text_argument(values)]
    return [text_argument(value) for value in values]


def key_arguments(keys: Text | Sequence[Text]) -> Iterator[Argument]:
    """The first key, and the others after `WITH <count>`."""
    listed = text_arguments(keys)
    if not listed:
        raise ValueError("at least one key is needed")
    first, *others = listed
    yield first
    if others:
        yield "WITH"
        yield len(others)
        yield from others


def amount_arguments(amounts: Mapping[str, Amount]) -> Iterator[Argument]:
    for meter, amount in amounts.items():
        yield text_argument(meter)
        yield amount_argument(amount)


def version_arguments(versions: Iterable[tuple[Text, int]]) -> Iterator[Argument]:
    for key, version in versions:
        yield text_argument(key)
        yield version


def budget_arguments(budgets: Iterable[tuple[Amount, str]]) -> Iterator[Argument]:
    for amount, period in budgets:
        yield amount_argument(amount)
        yield period


def unexpected(expected: str, reply: object) -> NoReturn:
    raise UnexpectedReply(expected, reply)


def integer(reply: object) -> int:
    return reply if isinstance(reply, int) else unexpected("an integer", reply)


def boolean(reply: object) -> bool:
    return integer(reply) != 0


def text(reply: object) -> str:
    if isinstance(reply, bytes):
        return reply.decode("utf-8", "surrogateescape")
    return reply if isinstance(reply, str) else unexpected("a string", reply)


def raw(reply: object) -> bytes:
    if isinstance(reply, str):
        return reply.encode("utf-8", "surrogateescape")
    return reply if isinstance(reply, bytes) else unexpected("a string", reply)


def amount(reply: object) -> Decimal:
    try:
        return Decimal(text(reply))
    except InvalidOperation:
        unexpected("an amount", reply)


def quantity(reply: object) -> int | Decimal:
    """A count of whole units, or an exact decimal."""
    return reply if isinstance(reply, int) else amount(reply)


def cursor(reply: object) -> int:
    given = reply if isinstance(reply, int) else text(reply)
    return int(given) if isinstance(given, int) or given.isdecimal() else unexpected("a cursor", reply)


def ok(reply: object) -> None:
    """The reply of what has nothing to tell. Some connections make `OK` a `True`."""
    if reply is not True and text(reply) != "OK":
        unexpected("OK", reply)


def stored(reply: object) -> bool:
    if reply is None:
        return False
    ok(reply)
    return True


def word(reply: object, words: frozenset[str]) -> str:
    given = text(reply)
    return given if given in words else unexpected(f"one of {', '.join(sorted(words))}", reply)


def items(reply: object, least: int = 0) -> Sequence[object]:
    """An array of at least so many items. Later servers may add fields to it."""
    if not isinstance(reply, (list, tuple)):
        unexpected("an array", reply)
    found = cast("Sequence[object]", reply)
    return found if len(found) >= least else unexpected(f"an array of {least}", found)


def optional(reply: object, decode: Callable[[object], T]) -> T | None:
    return None if reply is None else decode(reply)


def array(reply: object, decode: Callable[[object], T]) -> tuple[T, ...]:
    return tuple([decode(item) for item in items(reply)])


def mapping(reply: object, decode: Callable[[object], T]) -> dict[str, T]:
    """A map of RESP3, or the flat array of names and values that RESP2 has instead."""
    if isinstance(reply, dict):
        pairs = cast("dict[object, object]", reply)
        return {text(name): decode(value) for name, value in pairs.items()}
    flat = items(reply)
    if len(flat) % 2:
        unexpected("names and values in turn", flat)
    return {text(name): decode(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}


def anything(reply: object) -> object:
    return reply


def fields(reply: object) -> dict[str, object]:
    """A map whose names are known, and whose values differ."""
    return mapping(reply, anything)


def field(found: dict[str, object], name: str) -> object:
    return found[name] if name in found else unexpected(f"a field {name}", found)


def tail(found: Sequence[object], at: int, decode: Callable[[object], T]) -> T | None:
    """A field that only some replies have, at their end."""
    return decode(found[at]) if len(found) > at else None
