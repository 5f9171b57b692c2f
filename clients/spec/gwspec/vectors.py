"""The vectors: recorded from a server, and compared with one.

What differs from run to run (tokens, times, versions) is left out of the comparison, so that a recorded file changes
only if something has changed.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable
from datetime import datetime, timezone
from threading import Thread
from typing import Any

from .model import Method, Spec
from .paths import REFERENCE, ROOT, VECTORS, Output, load
from .resp import Connection, ErrorReply, parse
from .server import Server
from .wire import Reader, arguments_of, from_json, steady, to_json

PROTOCOLS = (2, 3)


def clean(connection: Connection) -> None:
    connection.call("FLUSHALL")
    connection.call("GW.STATSRESET")


def words(line: Any) -> list[bytes]:
    return [from_json(word) for word in (line.split(" ") if isinstance(line, str) else line)]


def prepare(connection: Connection, setup: list[Any]) -> list[Any]:
    """Sends what comes before a case. `$n` stands for field n of the last reply that was an array."""
    last: list[Any] = []
    for line in setup:
        reply = connection.call(*(filled(word, last) for word in words(line)))
        last = reply if isinstance(reply, list) else last
    return last


def filled(word: bytes, last: list[Any]) -> bytes | int:
    if word[:1] == b"$" and word[1:].isdigit():
        found: bytes | int = last[int(word[1:])]
        return found
    return word


def is_repeatable(method: Method, given: dict[str, Any]) -> bool:
    if isinstance(method.repeat, bool):
        return method.repeat

    def holds(needed: str) -> bool:
        if needed.startswith("!"):
            return given.get(needed[1:]) is None
        name, _, word = needed.partition("=")
        return given.get(name) == word if word else given.get(name) is not None

    return all(map(holds, method.repeat))


def replies(spec: Spec, server: Server) -> list[dict[str, Any]]:
    methods = {method.name: method for method in spec.methods}
    reader = Reader(spec)
    connections = {protocol: server.connect(protocol) for protocol in PROTOCOLS}
    cases = []
    for case in load(VECTORS / "replies.in.json")["cases"]:
        method = methods[case["method"]]
        made = {"name": case["name"], "method": method.name, "arguments": case["arguments"]}
        for protocol, connection in connections.items():
            clean(connection)
            last = prepare(connection, case.get("setup", []))
            given = {name: spelled(value, last) for name, value in case["arguments"].items()}
            sent = arguments_of(spec, method, given)
            raw = connection.raw(sent)
            try:
                value = reader.read(parse(raw)[0], method.reply)
            except (AssertionError, ErrorReply) as error:
                raise AssertionError(f"{case['name']}: {method.command} replied {raw!r}: {error}") from error
            made["arguments"] = given
            made["request"] = [to_json(word) for word in sent]
            made["repeatable"] = is_repeatable(method, given)
            made[f"resp{protocol}"] = {"reply": to_json(raw), "value": value}
        if steady(made["resp2"]["value"]) != steady(made["resp3"]["value"]):
            raise AssertionError(f"{case['name']}: RESP2 and RESP3 differ: {made}")
        # The arguments of both calls are the same but for what the server made, so one of them is enough.
        cases.append(made)
    check_complete(spec, cases)
    return cases


def check_complete(spec: Spec, cases: list[dict[str, Any]]) -> None:
    """Every method and every parameter is used by some case."""
    used = {(case["method"], name) for case in cases for name in case["arguments"]}
    used |= {(case["method"], "") for case in cases}
    used |= {(policy["kind"], name) for case in cases if (policy := case["arguments"].get("policy")) for name in policy}
    needed = {(method.name, name) for method in spec.methods for name in ("", *(param.name for param in method.params))}
    needed |= {(policy.name, part.param.name) for policy in spec.policies for part in policy.parts if part.param}
    missing = [f"{method} {name}".strip() for method, name in sorted(needed - used)]
    if missing:
        raise AssertionError(f"vectors/replies.in.json has no case with {', '.join(missing)}")


def spelled(value: Any, last: list[Any]) -> Any:
    if isinstance(value, str) and value[:1] == "$" and value[1:].isdigit():
        found = last[int(value[1:])]
        return to_json(found) if isinstance(found, bytes) else found
    return value


def comparable_reply(case: dict[str, Any]) -> dict[str, Any]:
    """A case without what differs from run to run."""
    result = {name: steady(value, name) for name, value in case.items() if name not in ("arguments", "request")}
    for protocol in PROTOCOLS:
        if f"resp{protocol}" in case:
            result[f"resp{protocol}"] = steady(case[f"resp{protocol}"]["value"])
    if "request" in case:
        made = {str(case["arguments"][name]) for name in ("batch_id", "token") if name in case["arguments"]}
        result["request"] = ["~" if str(word) in made else word for word in case["request"]]
    return result


def settle(
    path: str, about: str, cases: list[dict[str, Any]], comparable: Callable[[dict[str, Any]], Any], output: Output
) -> None:
    """Keeps what is recorded where nothing but times has changed."""
    file = VECTORS / path
    recorded = {case["name"]: case for case in load(file)["cases"]} if file.exists() else {}
    kept = []
    for case in cases:
        old = recorded.get(case["name"])
        kept.append(old if old is not None and comparable(old) == comparable(case) else case)
    output.write(file, dump_cases(about, kept))


def dump_cases(about: str, cases: list[dict[str, Any]]) -> str:
    """A line for each member of a case: short enough to read, and to compare."""
    lines = []
    for case in cases:
        members = ",\n".join(
            f"      {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in case.items()
        )
        lines.append(f"    {{\n{members}\n    }}")
    return f'{{\n  "about": {json.dumps(about)},\n  "cases": [\n' + ",\n".join(lines) + "\n  ]\n}\n"


def amounts(connection: Connection) -> dict[str, Any]:
    """What a server makes of each text, as the total of a ledger that it was charged to."""
    given = load(VECTORS / "amounts.in.json")

    def value(text: str) -> dict[str, str]:
        clean(connection)
        for refund in ([], ["REFUND"]):
            try:
                return {"value": connection.call("GW.ADDCOST", "k", text, *refund).decode()}
            except ErrorReply as error:
                told = error.text
                if not told.startswith("ERR negative amount"):
                    break
        return {"error": told.removeprefix("ERR ").removesuffix(": amount")}

    def total(texts: list[str]) -> str:
        clean(connection)
        totals: list[bytes] = [connection.call("GW.ADDCOST", "k", text) for text in texts]
        return totals[-1].decode()

    return {
        "texts": [{"given": text, **value(text)} for text in given["texts"]],
        "floats": [{"given": number, **value(repr(number))} for number in given["floats"]],
        "sums": [{"given": texts, "value": total(texts)} for texts in given["sums"]],
    }


def documented(page: str, name: str) -> dict[str, Any]:
    """What a block of Python code in the book defines."""
    text = (ROOT / "docs/src/guides" / page).read_text(encoding="utf-8")
    block = text.split(f"```python {name}\n", 1)[1].split("\n```", 1)[0]
    defined: dict[str, Any] = {}
    exec(compile(block, page, "exec"), defined)
    return defined


def cache_keys(connection: Connection) -> dict[str, Any]:
    """The hash is the server's; the canonical text is that of the book's function, if it has this hash."""
    given = load(VECTORS / "cache-keys.in.json")
    canonical = documented("cache-keys.md", "cache-key-python")["canonical"]

    def key(prefix: str, case: dict[str, Any]) -> str:
        ignore = ["IGNORE", *case["ignore"]] if case["ignore"] else []
        made: bytes = connection.call("GW.CACHEKEY", prefix, case["json"], *ignore)
        return made.decode()

    def with_key(case: dict[str, Any], exact: bool = True) -> dict[str, Any]:
        value = json.loads(case["json"], parse_int=int if exact else float)
        if isinstance(value, dict):
            value = {name: member for name, member in value.items() if name not in case["ignore"]}
        text = canonical(value)
        digest = key("k", case).removeprefix("k:")
        if hashlib.sha256(text.encode()).hexdigest() != digest:
            raise AssertionError(
                f"{case['name']}: the canonical form in docs/src/guides/cache-keys.md is another: {text}"
            )
        return {**case, "canonical": text, "sha256": digest}

    def refusal(text: bytes) -> dict[str, Any]:
        try:
            connection.call("GW.CACHEKEY", "k", text)
        except ErrorReply as error:
            reason, _, at = error.text.removeprefix("ERR ").rpartition(": at byte ")
            return {"error": reason, "at": int(at)}
        raise AssertionError(f"not refused: {text!r}")

    def tenant_key(case: dict[str, Any]) -> str:
        return key(case["category"] if case["tenant"] is None else f"{case['category']}:{case['tenant']}", case)

    return {
        "keys": [with_key(case) for case in given["keys"]],
        "not_objects": [with_key(case) for case in given["not_objects"]],
        "large": [with_key(case, exact=False) for case in given["large"]],
        "refused": [{"json": text, **refusal(text.encode())} for text in given["refused"]],
        "refused_bytes": [{**text, **refusal(from_json(text))} for text in given["refused_bytes"]],
        "tenants": [{**case, "key": tenant_key(case)} for case in given["tenants"]],
        "refused_tenants": given["refused_tenants"],
        "refused_categories": given["refused_categories"],
    }


def check_headers() -> None:
    """The book's function for one limiter makes the headers of headers.json."""
    headers = documented("http-headers.md", "headers-python")["rate_limit_headers"]
    given = load(VECTORS / "headers.json")
    now = datetime.fromtimestamp(given["now_ms"] / 1000, timezone.utc)
    for case in given["verdicts"]:
        made = headers(case["name"], case["reply"], case["period_ms"], now)
        if made != case["headers"]:
            raise AssertionError(f"docs/src/guides/http-headers.md makes other headers of {case}: {made}")


def errors(spec: Spec, server: Server) -> list[dict[str, Any]]:
    cases = []
    for case in load(VECTORS / "errors.in.json")["cases"]:
        line = case.get("line")
        if line is None and "server" in case:
            with Server(*case["server"]) as other:
                line = error_line(case, other)
        elif line is None:
            line = error_line(case, server)
        code, _, text = line.partition(" ")
        declared = spec.errors["types"].get(case["type"])
        if declared and code not in (declared["code"], *declared.get("also", [])):
            raise AssertionError(f"{case['name']}: {line}")
        made = {"name": case["name"], "line": line, "type": case["type"], "code": code, "text": text}
        made |= {"away": case.get("away", False), "retry": case.get("retry", False), "fields": case.get("fields")}
        cases.append(made)
    codes = {code for about in spec.errors["types"].values() for code in (about["code"], *about.get("also", []))}
    unknown = documented_codes() - codes
    if unknown:
        raise AssertionError(f"errors.json has no type for {', '.join(sorted(unknown))} of docs/src/reference/index.md")
    missing = set(spec.errors["types"]) - {case["type"] for case in cases}
    if missing:
        raise AssertionError(f"vectors/errors.in.json has no case of {', '.join(sorted(missing))}")
    return cases


def documented_codes() -> set[str]:
    """The codes in the tables of errors that the reference has for all commands."""
    page = (REFERENCE / "index.md").read_text(encoding="utf-8").split("\n## Errors\n", 1)[1]
    cells = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    return {code for cell in cells for code in re.findall(r"`([A-Z]{3,})\b", cell)}


def error_line(case: dict[str, Any], server: Server) -> str:
    with server.connect() as connection, server.connect() as other:
        if "server" not in case:
            clean(other)
        prepare(connection, case.get("setup", []))
        if "tried" in case:
            connection.raw(words(case["tried"]))
        called = words(case["call"])
        if case.get("during") == "EVAL busy":
            return while_busy(connection, other, called)
        if "during" in case:
            identity = connection.call("CLIENT", "ID")
            waiting = Thread(target=unblock, args=(other, identity))
            waiting.start()
            raw = connection.raw(called)
            waiting.join()
        else:
            raw = connection.raw(called)
        reply, _ = parse(raw)
        assert isinstance(reply, ErrorReply), f"{case['name']}: {raw!r}"
        return reply.text


def unblock(connection: Connection, identity: int) -> None:
    while connection.call("CLIENT", "UNBLOCK", identity, "ERROR") == 0:
        time.sleep(0.001)


def while_busy(connection: Connection, other: Connection, called: list[bytes]) -> str:
    """The reply while a script runs for ever, which is ended then."""
    script = Thread(target=other.raw, args=([b"EVAL", b"while true do end", b"0"],))
    script.start()
    try:
        while True:
            reply, _ = parse(connection.raw(called))
            if isinstance(reply, ErrorReply):
                return reply.text
    finally:
        connection.call("SCRIPT", "KILL")
        script.join()


#: What servers word differently from version to version, beginning with the code.
SERVERS_WORDS = {
    "Busy",
    "ClusterDown",
    "CrossSlot",
    "MasterDown",
    "ModuleMissing",
    "NoPermission",
    "NoReplicas",
    "NotAuthenticated",
    "OutOfMemory",
    "ReadOnly",
    "TransactionAborted",
    "Unblocked",
}


def comparable_error(case: dict[str, Any]) -> dict[str, Any]:
    if case["type"] in SERVERS_WORDS:
        return {name: value for name, value in case.items() if name not in ("line", "text")}
    return case


ABOUT = {
    "replies.json": "A call, the words that it sends, and the reply's bytes with the typed value of them. A string of "
    "any bytes is a JSON string if it is UTF-8, and else base64.",
    "errors.json": "An error reply, and the type that a client makes of it, with its fields. "
    "Fields that are null are not fixed.",
    "amounts.json": "What a server makes of amounts: their value as a plain decimal, exact to 12 places, or an error.",
    "cache-keys.json": "JSON texts with their canonical form (RFC 8785) and the hash that a server makes of it. "
    "`large` has integers beyond 2^53. Clients that read JSON texts refuse what is in `refused`; all refuse a tenant "
    "or a category with a colon.",
}


def write(spec: Spec, output: Output) -> None:
    about = {
        name: f"Recorded by generate.py from {name[:-5]}.in.json: do not edit. {text}" for name, text in ABOUT.items()
    }
    with Server() as server, server.connect() as connection:
        settle("replies.json", about["replies.json"], replies(spec, server), comparable_reply, output)
        settle("errors.json", about["errors.json"], errors(spec, server), comparable_error, output)
        output.write(VECTORS / "amounts.json", dump_lists(about["amounts.json"], amounts(connection)))
        output.write(VECTORS / "cache-keys.json", dump_lists(about["cache-keys.json"], cache_keys(connection)))
    check_headers()


def dump_lists(about: str, lists: dict[str, Any]) -> str:
    out = [f'{{\n  "about": {json.dumps(about)}']
    for name, items in lists.items():
        lines = ",\n".join(f"    {json.dumps(item, ensure_ascii=False)}" for item in items)
        out.append(f"  {json.dumps(name)}: [\n{lines}\n  ]")
    return ",\n".join(out) + "\n}\n"
