"""The vectors of clients/spec, and how replies look to a program."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

SPEC = Path(__file__).resolve().parents[2] / "spec"
sys.path.insert(0, str(SPEC))

from gwspec.resp import Connection, ErrorReply, Map, Status, parse  # noqa: E402
from gwspec.server import Server  # noqa: E402

__all__ = ["Connection", "ErrorReply", "Server", "converted", "from_json", "load", "name_of", "native", "to_json"]


def load(name: str) -> Any:
    return json.loads((SPEC / "vectors" / name).read_text(encoding="utf-8"))


def name_of(case: Any) -> str:
    return str(case["name"])


def from_json(value: Any) -> bytes:
    """A string of any bytes."""
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else str(value).encode()


def to_json(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def native(raw: bytes, decoded: bool) -> Any:
    """A reply as a connection hands it to a program."""
    reply, end = parse(raw)
    assert end == len(raw)
    return converted(reply, decoded)


def converted(reply: Any, decoded: bool) -> Any:
    if isinstance(reply, ErrorReply):
        raise reply
    if isinstance(reply, Status):
        reply = reply.text
    if isinstance(reply, bytes):
        return reply.decode("utf-8", "surrogateescape") if decoded else reply
    if isinstance(reply, list):
        return [converted(item, decoded) for item in reply]
    if isinstance(reply, Map):
        return {converted(name, decoded): converted(value, decoded) for name, value in reply.pairs}
    return reply
