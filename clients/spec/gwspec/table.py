"""The command table: what COMMAND DOCS and COMMAND INFO tell, with the ranges that the reference pages give."""

import re
from typing import Any

from .paths import REFERENCE
from .resp import Connection, Status


def text(value: Any) -> str:
    return (value.text if isinstance(value, Status) else value).decode()


def fields(value: list[Any]) -> dict[str, Any]:
    return {text(value[at]): value[at + 1] for at in range(0, len(value), 2)}


def argument(value: list[Any]) -> dict[str, Any]:
    """Only what all servers tell alike."""
    told = fields(value)
    result: dict[str, Any] = {"name": text(told["name"]), "type": text(told["type"])}
    if "token" in told:
        result["token"] = text(told["token"])
    flags = {text(flag) for flag in told.get("flags", [])}
    for flag in ("optional", "multiple", "multiple_token"):
        if flag in flags:
            result[flag] = True
    if "arguments" in told:
        result["arguments"] = [argument(inner) for inner in told["arguments"]]
    return result


def key_spec(value: list[Any]) -> dict[str, Any]:
    told = fields(value)

    def part(name: str) -> dict[str, Any]:
        outer = fields(told[name])
        inner = fields(outer["spec"])
        return {"type": text(outer["type"])} | {
            name: text(v) if isinstance(v, bytes) else v for name, v in inner.items()
        }

    flags = sorted(text(flag) for flag in told["flags"])
    return {"flags": flags, "begin_search": part("begin_search"), "find_keys": part("find_keys")}


def plain(cell: str) -> str:
    """Markdown to text: links by their words alone."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", cell).replace("\\|", "|").strip()


def notes(name: str) -> list[dict[str, str]]:
    """The rows of the tables under "Arguments" of a command's page."""
    page = (REFERENCE / f"{name.lower()}.md").read_text(encoding="utf-8")
    section = page.split("\n## Arguments\n", 1)[1].split("\n## ", 1)[0]
    rows: list[dict[str, str]] = []
    header: list[str] = []
    for line in section.splitlines():
        cells = [plain(cell) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            header = []
        elif not header:
            header = [cell.lower() for cell in cells]
        elif not set(line) <= set("|-: "):
            row = {title: cell for title, cell in zip(header, cells, strict=True) if cell}
            row["argument"] = row.pop(header[0]).replace("`", "")
            rows.append({key: row[key] for key in ("argument", "range", "default", "meaning") if key in row})
    return rows


def categories(flags: list[str]) -> list[str]:
    """What the module asks for. Servers before Redis 7.4 have no categories for commands of modules."""
    if "admin" in flags:
        return ["@admin", "@dangerous"]
    return ["@gw", "@read" if "readonly" in flags else "@write", "@fast" if "fast" in flags else "@slow"]


def read(connection: Connection) -> dict[str, Any]:
    """The table, as clients/spec/commands.json has it."""
    listed = connection.call("COMMAND", "LIST", "FILTERBY", "MODULE", "gw")
    names = sorted(text(name).upper() for name in listed)
    commands = {}
    for name in names:
        if name.startswith("GW._"):
            continue
        docs = fields(connection.call("COMMAND", "DOCS", name)[1])
        info = connection.call("COMMAND", "INFO", name)[0]
        flags = sorted(text(flag) for flag in info[2] if text(flag) != "module")
        commands[name] = {
            "summary": text(docs["summary"]),
            "since": text(docs["since"]),
            "complexity": text(docs["complexity"]),
            "arity": info[1],
            "flags": flags,
            "categories": categories(flags),
            "tips": sorted(text(tip) for tip in info[7]),
            "keys": [key_spec(spec) for spec in info[8]],
            "arguments": [argument(value) for value in docs.get("arguments", [])],
            "notes": notes(name),
        }
    return {"commands": commands}
