"""Reading a command's words, and writing its errors."""

from __future__ import annotations

import re
from decimal import Decimal

from .._commands import format_amount, parse_amount
from .._errors import GatewayError, error_with

__all__ = ["NotInFake", "Words", "amount", "plain", "refused", "whole"]

INTEGER = re.compile(rb"-?[0-9]+\Z")
MOST = 2**53


class NotInFake(NotImplementedError):
    """The fake does not have this command, or this option of it. Use a real server for this test."""


def refused(text: str, code: str = "ERR") -> GatewayError:
    return error_with(code, text)


def whole(word: bytes, name: str, least: int, most: int = MOST) -> int:
    if not INTEGER.match(word) or not least <= int(word) <= most:
        raise refused(f"not an integer from {least} to {most}: {name}")
    return int(word)


def amount(word: bytes, name: str, *, negative: bool = False) -> Decimal:
    if len(word) > 2_048:
        raise refused(f"amount too long: {name}")
    try:
        made = parse_amount(word.decode("utf-8", "replace"))
    except ValueError as error:
        raise refused(f"{error}: {name}") from None
    if made < 0 and not negative:
        raise refused(f"negative amount: {name}")
    return made


def plain(value: Decimal) -> bytes:
    return format_amount(value).encode()


class Words:
    """The words of a call after its name, taken from the left."""

    def __init__(self, words: list[bytes]) -> None:
        self._words = words
        self._at = 0

    def left(self) -> bool:
        return self._at < len(self._words)

    def take(self, name: str = "value") -> bytes:
        if not self.left():
            raise refused(f"missing value: {name}")
        self._at += 1
        return self._words[self._at - 1]

    def peek(self) -> bytes:
        return self._words[self._at].upper() if self.left() else b""

    def rest(self) -> list[bytes]:
        found, self._at = self._words[self._at :], len(self._words)
        return found

    def name(self, option: str, most: int) -> bytes:
        found = self.take(option)
        if not 1 <= len(found) <= most:
            raise refused(f"not a name of 1 to {most} bytes: {option}")
        return found

    def integer(self, option: str, least: int, most: int = MOST) -> int:
        return whole(self.take(option), option, least, most)

    def keys(self, most: int) -> list[bytes]:
        """A key, and further ones after WITH and their number."""
        found = [self.take("account")]
        if self.peek() == b"WITH":
            self.take()
            for _ in range(self.integer("numkeys", 1, most)):
                found.append(self.take("account"))
        for at, key in enumerate(found):
            if key in found[:at]:
                raise refused(f"repeated key: {key.decode('utf-8', 'replace')}")
        return found
