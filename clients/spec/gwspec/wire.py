"""A second, plain reading of the spec, against which the vectors are recorded: calls to arguments, replies to JSON.

In the vectors a string of any bytes is a JSON string if it is UTF-8, and else `{"base64": …}`.
"""

import base64
from typing import Any

from .model import Method, Part, Shape, Spec
from .resp import ErrorReply, Map, Status, to_bytes

#: Fields that differ from run to run.
VOLATILE = {
    "acknowledged",
    "batch_id",
    "bytes",
    "fencing_token",
    "first_day",
    "last_fencing_token",
    "memory_bytes",
    "since",
    "token",
    "top_bytes",
    "version",
}


def to_json(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def from_json(value: Any) -> bytes:
    if isinstance(value, dict):
        return base64.b64decode(value["base64"])
    return to_bytes(value)


def several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def arguments_of(spec: Spec, method: Method, given: dict[str, Any]) -> list[bytes]:
    """A call's arguments: the command's name first."""
    names = {param.name for param in method.params}
    if not given.keys() <= names:
        raise ValueError(f"{method.name} has no {', '.join(given.keys() - names)}")
    return [method.command.encode(), *parts_of(spec, method.parts, given)]


def parts_of(spec: Spec, parts: list[Part], given: dict[str, Any]) -> list[bytes]:
    made: list[bytes] = []
    for part in parts:
        token = [part.token.encode()] if part.token else []
        if part.kind == "const":
            made += token
            continue
        assert part.param is not None
        value = given.get(part.param.name)
        if value is None or value is False:
            if not part.param.optional:
                raise ValueError(f"missing: {part.param.name}")
            continue
        if part.kind == "flag":
            made += token
        elif part.kind == "keys":
            first, *others = several(value)
            made.append(from_json(first))
            made += [b"WITH", to_bytes(len(others)), *map(from_json, others)] if others else []
        elif part.kind == "pairs":
            pairs = value.items() if isinstance(value, dict) else value
            made += [from_json(one) for pair in pairs for one in pair]
        elif part.kind == "budgets":
            made += [from_json(one) for pair in value for one in pair]
        elif part.kind == "policy":
            policy = next(one for one in spec.policies if one.name == value["kind"])
            made += parts_of(spec, policy.parts, value)
        elif part.kind == "many" and part.each:
            made += [one for item in several(value) for one in (*token, from_json(item))]
        elif part.kind == "many":
            made += [*token, *map(from_json, several(value))]
        else:
            made += [*token, from_json(value)]
    return made


class Reader:
    """Reads replies by their shapes."""

    def __init__(self, spec: Spec) -> None:
        self.records: dict[str, Any] = spec.replies["records"]
        self.unions: dict[str, Any] = spec.replies["unions"]
        self.words: dict[str, Any] = spec.replies["words"]

    def read(self, reply: Any, shape: Shape) -> Any:
        if isinstance(reply, ErrorReply):
            raise reply
        if isinstance(shape, str):
            return self.plain(reply, shape)
        ((kind, inner),) = shape.items()
        if kind == "optional":
            return None if reply is None else self.read(reply, inner)
        if kind == "word":
            word = self.plain(reply, "text")
            assert word in self.words[inner]["of"], word
            return word
        if kind == "array":
            assert isinstance(reply, list), reply
            return [self.read(item, inner) for item in reply]
        if kind == "map":
            return {self.plain(name, "text"): self.read(value, inner) for name, value in pairs(reply)}
        if kind == "union":
            told = dict(pairs(reply))
            record = self.unions[inner]["cases"][told[self.unions[inner]["by"].encode()].decode()]
            return {"kind": record, **self.fields(reply, record)}
        if kind == "fields":
            return self.fields(reply, inner)
        assert kind == "record" and isinstance(reply, list), (kind, reply)
        result: dict[str, Any] = {}
        for at, (name, field, _) in enumerate(self.records[inner]["fields"]):
            if isinstance(field, dict) and "tail" in field:
                result[name] = self.read(reply[at], field["tail"]) if at < len(reply) else None
            elif isinstance(field, dict) and "rest" in field:
                result[name] = [self.read(item, field["rest"]) for item in reply[at:]]
            else:
                result[name] = self.read(reply[at], field)
        whole = [
            field for field in self.records[inner]["fields"] if not (isinstance(field[1], dict) and "rest" in field[1])
        ]
        assert len(whole) < len(self.records[inner]["fields"]) or len(reply) <= len(whole), (
            f"{inner} lacks fields: {reply}"
        )
        return result

    def fields(self, reply: Any, record: str) -> dict[str, Any]:
        told = {name.decode(): value for name, value in pairs(reply)}
        known = [name for name, _, _ in self.records[record]["fields"]]
        assert list(told) == known, f"{record} has the fields {known}, and the reply {list(told)}"
        return {name: self.read(told[name], shape) for name, shape, _ in self.records[record]["fields"]}

    def plain(self, reply: Any, shape: str) -> Any:
        if shape == "ok":
            assert reply == Status(b"OK"), reply
            return None
        if shape == "stored":
            assert reply is None or reply == Status(b"OK"), reply
            return reply is not None
        if shape == "boolean":
            assert reply in (0, 1), reply
            return reply == 1
        if shape == "integer" or (shape == "quantity" and isinstance(reply, int)):
            assert isinstance(reply, int), reply
            return reply
        assert isinstance(reply, bytes), (shape, reply)
        return int(reply) if shape == "cursor" else to_json(reply)


def pairs(reply: Any) -> list[tuple[Any, Any]]:
    if isinstance(reply, Map):
        return reply.pairs
    assert isinstance(reply, list), reply
    return list(zip(reply[::2], reply[1::2], strict=True))


def steady(value: Any, name: str = "") -> Any:
    """A typed value without what differs from run to run."""
    if isinstance(value, dict):
        return {key: steady(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return [steady(one, name) for one in value]
    differs = name in VOLATILE or name.endswith(("_ms", "_per_minute"))
    # None, "never", and "now" of a wait are decisions; other zeros may be a millisecond more the next time.
    decided = value is None or value == -1 or (value == 0 and name == "retry_after_ms")
    return "~" if differs and not decided else value
