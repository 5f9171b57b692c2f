"""RESP2 and RESP3: requests to bytes, and replies from them, with the bytes that they came in."""

import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class ErrorReply(Exception):
    """An error, as the server words it: `CODE text`."""

    text: str


@dataclass(frozen=True)
class Status:
    """A simple string."""

    text: bytes


def request(args: list[bytes]) -> bytes:
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        parts.append(b"$%d\r\n%b\r\n" % (len(arg), arg))
    return b"".join(parts)


class Incomplete(Exception):
    """The reply's end has not come yet."""


def parse(data: bytes, at: int = 0) -> tuple[Any, int]:
    """The reply that begins at `at`, and where it ends. Arrays are lists, maps are lists of pairs in `Map`."""
    end = data.find(b"\r\n", at)
    if end < 0:
        raise Incomplete
    kind, line, after = data[at : at + 1], data[at + 1 : end], end + 2
    if kind == b":":
        return int(line), after
    if kind == b"+":
        return Status(line), after
    if kind == b"-":
        return ErrorReply(line.decode()), after
    if kind == b"_":
        return None, after
    if kind == b"$":
        length = int(line)
        if length < 0:
            return None, after
        if len(data) < after + length + 2:
            raise Incomplete
        return data[after : after + length], after + length + 2
    if kind == b"*":
        if line == b"-1":
            return None, after
        items = []
        for _ in range(int(line)):
            item, after = parse(data, after)
            items.append(item)
        return items, after
    if kind == b"%":
        pairs = []
        for _ in range(int(line)):
            name, after = parse(data, after)
            value, after = parse(data, after)
            pairs.append((name, value))
        return Map(pairs), after
    raise ValueError(f"a reply that the module does not use: {data[at:end]!r}")


@dataclass(frozen=True)
class Map:
    """A map of RESP3, with its order."""

    pairs: list[tuple[Any, Any]]


class Connection:
    """A connection that speaks one version of the protocol."""

    def __init__(self, path: str, protocol: int) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        try:
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise
        self.rest = b""
        if protocol == 3:
            self.raw([b"HELLO", b"3"])

    def raw(self, args: list[bytes]) -> bytes:
        """The bytes of the reply."""
        self.socket.sendall(request(args))
        while True:
            try:
                _, end = parse(self.rest)
                reply, self.rest = self.rest[:end], self.rest[end:]
                return reply
            except Incomplete:
                more = self.socket.recv(1 << 16)
                if not more:
                    raise ConnectionError("the server has closed the connection") from None
                self.rest += more

    def call(self, *args: str | bytes | int) -> Any:
        """The reply; raises `ErrorReply`."""
        reply, _ = parse(self.raw([to_bytes(arg) for arg in args]))
        if isinstance(reply, ErrorReply):
            raise reply
        return reply

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def to_bytes(arg: str | bytes | int) -> bytes:
    return arg if isinstance(arg, bytes) else str(arg).encode("utf-8", "surrogateescape")
