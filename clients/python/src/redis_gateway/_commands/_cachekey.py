"""Cache keys: the SHA-256 of a request in canonical form (RFC 8785), the same as GW.CACHEKEY's.

What could give two requests one key, or one request two, is refused with `NotCanonical`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Container, Iterable, Mapping
from decimal import Decimal
from typing import Any, cast

#: The deepest nesting of arrays and objects.
DEPTH_MAX = 128
#: All integers nearer to zero are doubles.
INTEGER_MAX = 2**53


class NotCanonical(ValueError):
    """A value that has no canonical form."""


def cache_key(category: str, request: object, *, tenant: str | None = None, ignore: Iterable[str] = ()) -> str:
    """`category:tenant:hash`, or `category:hash` without a tenant.

    Neither may contain a colon, so that two tenants never share a key. `request` is a value as `json.loads` returns it.
    Its members in `ignore` are left out, at its top alone.
    """
    if ":" in category or ":" in (tenant or ""):
        raise ValueError("a colon in the category or the tenant of a cache key")
    if tenant is not None:
        category = f"{category}:{tenant}"
    ignored = frozenset(ignore)
    if ignored and isinstance(request, Mapping):
        members = cast("Mapping[object, object]", request)
        request = {name: value for name, value in members.items() if name not in cast("Container[object]", ignored)}
    return f"{category}:{hashlib.sha256(canonical(request)).hexdigest()}"


def canonical(value: object) -> bytes:
    """The canonical JSON text of a value, in UTF-8."""
    pieces: list[str] = []
    write(value, 0, pieces.append)
    try:
        return "".join(pieces).encode()
    except UnicodeEncodeError as error:
        raise NotCanonical("half of a surrogate pair") from error


def parse(text: str | bytes) -> object:
    """A JSON text as a value that `canonical` takes, refusing what `json.loads` alone would let pass."""
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        parsed: object = json.loads(decoded, object_pairs_hook=members_of, parse_constant=refuse)
    except NotCanonical:
        raise
    except RecursionError as error:
        raise NotCanonical(f"nested deeper than {DEPTH_MAX}") from error
    except ValueError as error:
        raise NotCanonical("not valid JSON") from error
    canonical(parsed)
    return parsed


def members_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise NotCanonical("a name that repeats")
    return members


def refuse(constant: str) -> object:
    raise NotCanonical(f"not valid JSON: {constant}")


def write(value: object, depth: int, out: Any) -> None:
    if isinstance(value, str):
        out(json.dumps(value, ensure_ascii=False))
    elif value is None or isinstance(value, bool):
        out("null" if value is None else str(value).lower())
    elif isinstance(value, (int, float)):
        out(number(value))
    elif depth == DEPTH_MAX and isinstance(value, (Mapping, list, tuple)):
        raise NotCanonical(f"nested deeper than {DEPTH_MAX}")
    elif isinstance(value, Mapping):
        write_members(cast("Mapping[object, object]", value), depth + 1, out)
    elif isinstance(value, (list, tuple)):
        separator = "["
        for item in cast("list[object]", value):
            out(separator)
            write(item, depth + 1, out)
            separator = ","
        out("]" if value else "[]")
    else:
        raise NotCanonical(f"not a JSON value: {type(value).__name__}")


def write_members(value: Mapping[object, object], depth: int, out: Any) -> None:
    names: list[str] = []
    for name in value:
        if not isinstance(name, str):
            raise NotCanonical(f"not a name of a member: {type(name).__name__}")
        names.append(name)
    # Lone surrogates are sorted, too, and refused when the text is encoded.
    names.sort(key=lambda name: name.encode("utf-16-be", "surrogatepass"))
    separator = "{"
    for name in names:
        out(f"{separator}{json.dumps(name, ensure_ascii=False)}:")
        write(value[name], depth, out)
        separator = ","
    out("}" if names else "{}")


def number(value: float) -> str:
    """A number as ECMAScript writes it."""
    if isinstance(value, int) and abs(value) < INTEGER_MAX:
        return str(value)
    try:
        double = float(value)
    except OverflowError as error:
        raise NotCanonical("a number that a double cannot hold") from error
    if not math.isfinite(double):
        raise NotCanonical("a number that a double cannot hold")
    written = number_of_double(double)
    # An integer that the double would change into another, such as a seed.
    if isinstance(value, int) and Decimal(written) != value:
        raise NotCanonical("a number that a double cannot hold")
    return written


def number_of_double(value: float) -> str:
    if value == 0:
        return "0"
    sign, places, exponent = Decimal(repr(value)).normalize().as_tuple()
    digits = "".join(map(str, places))
    point = len(digits) + int(exponent)
    if len(digits) <= point <= 21:
        text = digits + "0" * (point - len(digits))
    elif 0 < point <= 21:
        text = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{digits}"
    else:
        fraction = f".{digits[1:]}" if len(digits) > 1 else ""
        text = f"{digits[0]}{fraction}e{point - 1:+d}"
    return f"-{text}" if sign else text
