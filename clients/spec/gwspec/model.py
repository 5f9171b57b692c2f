"""The methods that every client has, made of the command table and the shapes of the replies.

A command's arguments, as COMMAND DOCS nests them, become a list of parts in the order of the call. Each part that a
caller fills in has a parameter. What needs a choice that the table does not tell (which replies a command has, and
what a parameter is called) is in replies.json.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Shape = Any


def type_of(shape: Shape, plain: Mapping[str, str], around: Callable[[str, str, Shape], str]) -> str:
    """A language's type for a shape: by its name in `plain`, or the type that has the shape's name, or what `around`
    makes of its kind (`array`, `map`, and for what may be missing `optional` or `tail`), the type inside it, and that
    type's shape."""
    if isinstance(shape, str):
        return plain[shape]
    ((kind, inner),) = shape.items()
    if kind in ("record", "fields", "word", "union"):
        return str(inner)
    return around("array" if kind == "rest" else kind, type_of(inner, plain, around), inner)


@dataclass(frozen=True)
class Param:
    """What a caller passes, under a name in snake_case."""

    name: str
    #: text, bytes, integer, amount, flag, word, texts, byte strings, integers, keys, amounts, versions, budgets, policy
    type: str
    optional: bool
    positional: bool
    #: From the reference: what it means, its range and its default.
    note: dict[str, str]
    #: For words: the name of the set of words.
    words: str = ""


@dataclass(frozen=True)
class Part:
    """A piece of a call. `token` comes first, if there is one."""

    #: const, value, flag, word, many, keys, pairs, budgets, policy
    kind: str
    token: str = ""
    param: Param | None = None
    #: For many: the token is repeated before each.
    each: bool = False


@dataclass(frozen=True)
class Policy:
    """A kind of policy: its own words in GW.POLICYSET."""

    alternative: str
    name: str
    parts: list[Part]


@dataclass(frozen=True)
class Method:
    """A method of the clients."""

    name: str
    command: str
    doc: str
    parts: list[Part]
    reply: Shape
    #: True, False, or what a call must have so that sending it again changes nothing.
    repeat: Any
    flags: list[str]
    family: str

    @property
    def params(self) -> list[Param]:
        """Those by position first, and of the others those first that a call must have."""
        params = [part.param for part in self.parts if part.param]
        return sorted(params, key=lambda param: (not param.positional, param.optional))


@dataclass
class Spec:
    """commands.json, replies.json and errors.json."""

    commands: dict[str, Any]
    replies: dict[str, Any]
    errors: dict[str, Any]
    methods: list[Method] = field(default_factory=list)
    policies: list[Policy] = field(default_factory=list)

    def __post_init__(self) -> None:
        described = self.replies["commands"]
        missing = sorted(set(self.commands) ^ set(described))
        if missing:
            raise ValueError(f"commands.json and replies.json do not name the same commands: {', '.join(missing)}")
        self.check_names()
        for command, about in described.items():
            covered: set[int] = set()
            for entry in about["methods"]:
                builder = Builder(self, command, entry, covered)
                parts = builder.parts(self.commands[command]["arguments"])
                summary = self.commands[command]["summary"]
                self.methods.append(
                    Method(
                        entry["name"],
                        command,
                        entry.get("doc", summary),
                        parts,
                        entry["reply"],
                        entry["repeat"],
                        self.commands[command]["flags"],
                        about["family"],
                    )
                )
            for argument in self.commands[command]["arguments"]:
                self.check_covered(command, argument, covered)

    def check_names(self) -> None:
        """What replies.json names is there, and what is there is named."""
        kinds = {"record": "records", "fields": "records", "word": "words", "union": "unions"}
        named: dict[str, set[str]] = {"records": set(), "words": set(), "unions": set()}

        def visit(shape: Shape) -> None:
            if isinstance(shape, dict):
                ((kind, inner),) = shape.items()
                if kind in kinds:
                    named[kinds[kind]].add(inner)
                else:
                    visit(inner)

        for record in self.replies["records"].values():
            for _, shape, _ in record["fields"]:
                visit(shape)
        for union in self.replies["unions"].values():
            named["records"].update(union["cases"].values())
        for about in self.replies["commands"].values():
            for entry in about["methods"]:
                visit(entry["reply"])
        for by_name in self.replies["arguments"]["words"].values():
            named["words"].update(by_name.values())
        for kind, names in named.items():
            for name in sorted(names ^ set(self.replies[kind])):
                raise ValueError(f"replies.json: {name} is {'not defined' if name in names else 'not used'}")
        for command, about in self.replies["commands"].items():
            known = {argument["name"] for argument in every(self.commands[command]["arguments"])}
            for entry in about["methods"]:
                mentioned = [*entry.get("fixed", []), *entry.get("without", []), *entry.get("required", [])]
                mentioned += [one for pair in entry.get("choose", {}).items() for one in pair]
                for name in set(mentioned) - known:
                    raise ValueError(f"replies.json: {command} has no argument {name}, which {entry['name']} names")

    def check_covered(self, command: str, argument: dict[str, Any], covered: set[int]) -> None:
        """Each word and value of the syntax must be within reach of some method."""
        inner = argument.get("arguments", [])
        if not inner and id(argument) not in covered:
            raise ValueError(f"no method of {command} has its argument {argument['name']}: see replies.json")
        for each in inner:
            self.check_covered(command, each, covered)

    def words(self, name: str) -> list[str]:
        words: list[str] = self.replies["words"][name]["of"]
        return words


def every(arguments: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The arguments with all that are within them."""
    for argument in arguments:
        yield argument
        yield from every(argument.get("arguments", []))


class Builder:
    """Makes the parts of one method."""

    def __init__(self, spec: Spec, command: str, entry: dict[str, Any], covered: set[int]) -> None:
        self.spec, self.command, self.entry, self.covered = spec, command, entry, covered
        self.notes: list[dict[str, str]] = spec.commands[command]["notes"]
        arguments = spec.replies["arguments"]
        self.types: dict[str, str] = arguments["types"]
        self.names: dict[str, str] = arguments["names"].get(command, {})
        self.word_sets: dict[str, str] = arguments["words"].get(command, {})

    def listed(self, what: str, argument: dict[str, Any]) -> bool:
        return argument["name"] in self.entry.get(what, [])

    def parts(self, arguments: list[dict[str, Any]]) -> list[Part]:
        parts: list[Part] = []
        at = 0
        while at < len(arguments):
            names = [argument["name"] for argument in arguments[at : at + 3]]
            if names[1:2] == ["with"]:
                self.cover(arguments[at + 1])
                parts.append(self.keys(arguments[at]))
                at += 2
            elif names == ["budget", "period", "more"]:
                self.cover(arguments[at + 1], arguments[at + 2])
                parts.append(self.part("budgets", arguments[at], "budgets", name="budgets"))
                at += 3
            else:
                parts.extend(self.one(arguments[at]))
                at += 1
        return parts

    def keys(self, argument: dict[str, Any]) -> Part:
        """The first key, and those after WITH."""
        name = argument["name"]
        others = next(row for row in self.notes if row["argument"].startswith("WITH "))
        meaning = f"{self.note(argument, '', '')['meaning']} Or several: {others['meaning']}"
        self.cover(argument)
        note = {"meaning": meaning, "range": f"one, and {others['range']}"}
        return Part("keys", "", Param(f"{name}s", "keys", False, True, note))

    def cover(self, *arguments: dict[str, Any]) -> None:
        for argument in arguments:
            self.covered.add(id(argument))
            self.cover(*argument.get("arguments", []))

    def part(
        self,
        kind: str,
        argument: dict[str, Any],
        type: str,
        *,
        name: str = "",
        note: str = "",
        words: str = "",
        each: bool = False,
    ) -> Part:
        self.cover(argument)
        token = argument.get("token", "")
        optional = bool(argument.get("optional")) and not self.listed("required", argument)
        param = Param(
            name or self.name(argument),
            type,
            optional,
            not optional and not token,
            self.note(argument, note or token, words),
            words,
        )
        return Part(kind, token, param, each)

    def name(self, argument: dict[str, Any]) -> str:
        name: str = argument["name"]
        return self.names.get(name, name.replace("-", "_"))

    def note(self, argument: dict[str, Any], token: str, words: str) -> dict[str, str]:
        """The row of the reference about an argument."""
        name = argument["name"]
        candidates = [
            f"{token} {name}",
            token,
            f"{token} ...",
            name,
            token.rsplit(" ", maxsplit=1)[-1],
            *(self.spec.words(words) if words else []),
        ]
        for candidate in filter(None, candidates):
            for row in self.notes:
                if row["argument"] == candidate:
                    return row
        for candidate in filter(None, candidates):
            for row in self.notes:
                if candidate in row["argument"].replace(",", "").split():
                    return row
        return {}

    def one(self, argument: dict[str, Any]) -> list[Part]:
        if self.listed("without", argument):
            return []
        kind, token = argument["type"], argument.get("token", "")
        if kind == "pure-token":
            if argument.get("optional") and not self.listed("fixed", argument):
                return [self.part("flag", argument, "flag")]
            self.cover(argument)
            return [Part("const", token)]
        if kind == "oneof":
            return self.choice(argument)
        if kind == "block":
            return self.block(argument)
        type = {"integer": "integer", "unix-time": "integer", "key": "text"}.get(kind, "")
        type = type or self.types.get(argument["name"], "text")
        if argument.get("multiple"):
            many = {"text": "texts", "bytes": "byte strings", "integer": "integers"}[type]
            return [self.part("many", argument, many, each=bool(argument.get("multiple_token")))]
        return [self.part("value", argument, type)]

    def choice(self, argument: dict[str, Any]) -> list[Part]:
        inner = argument["arguments"]
        chosen = self.entry.get("choose", {}).get(argument["name"])
        if chosen:
            # A value that is all the choice leaves open goes by position.
            alternative = self.one(next(one for one in inner if one["name"] == chosen))
            return [
                replace(part, param=replace(part.param, positional=True))
                if part.param and not part.param.optional
                else part
                for part in alternative
            ]
        if self.command == "GW.POLICYSET" and argument["name"] == "policy":
            return [self.policy(argument)]
        if all(one["type"] == "pure-token" for one in inner):
            words = self.word_sets[argument["name"]]
            if self.spec.words(words) != [one["token"] for one in inner]:
                raise ValueError(f"{self.command}: {words} of replies.json are not the words of {argument['name']}")
            return [self.part("word", argument, "word", words=words)]
        parts: list[Part] = []
        for one in inner:
            parts.extend(self.optional(self.one(one)))
        return parts

    def optional(self, parts: list[Part]) -> list[Part]:
        """An alternative: what it begins with may be left out, and so may the rest."""
        made: list[Part] = []
        for part in parts:
            if part.kind == "const":
                name = part.token.lower()
                made.append(
                    Part(
                        "flag", part.token, Param(name, "flag", True, False, self.note({"name": name}, part.token, ""))
                    )
                )
            elif part.param:
                made.append(replace(part, param=replace(part.param, optional=True, positional=False)))
        return made

    def block(self, argument: dict[str, Any]) -> list[Part]:
        inner, token = argument["arguments"], argument.get("token", "")
        if argument.get("multiple"):
            kinds = {"amounts": ("pairs", "amounts"), "stored": ("pairs", "versions"), "rows": ("many", "texts")}
            kind, type = kinds[argument["name"]]
            return [self.part(kind, argument, type, note=" ".join(one["name"] for one in inner))]
        if token and len(inner) == 1 and inner[0].get("multiple"):
            type = {"string": "texts", "integer": "integers"}[inner[0]["type"]]
            many = {**inner[0], "token": token, "optional": argument.get("optional")}
            self.cover(argument)
            return [self.part("many", many, type)]
        parts = self.parts(inner)
        if argument.get("optional") and not self.listed("required", argument):
            if token:
                raise ValueError(f"{self.command}: the clients cannot express {argument['name']}")
            return self.optional(parts)
        if token:
            return [Part("const", token), *parts]
        return parts

    def policy(self, argument: dict[str, Any]) -> Part:
        names = self.spec.replies["policies"]
        for one in argument["arguments"]:
            parts = self.one(one)
            self.spec.policies.append(Policy(one["name"], names[one["name"]], parts))
        self.cover(argument)
        return Part(
            "policy", "", Param("policy", "policy", False, True, {"meaning": "The policy's kind with its values."})
        )
