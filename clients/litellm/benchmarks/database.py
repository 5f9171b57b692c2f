"""A PostgreSQL of our own, with LiteLLM's tables, for spend.py."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from servers import eventually, free_port

TYPES = {
    "String": "text",
    "Int": "integer",
    "BigInt": "bigint",
    "Float": "double precision",
    "Boolean": "boolean",
    "DateTime": "timestamp(3)",
    "Json": "jsonb",
    "Bytes": "bytea",
    "Decimal": "numeric",
}


def schema_file() -> Path:
    found = importlib.util.find_spec("litellm")
    assert found and found.origin, "litellm is not installed"
    return Path(found.origin).parent / "proxy" / "schema.prisma"


def tables(schema: str) -> str:
    """LiteLLM's tables with their keys, as SQL: what prisma would make of its schema, without foreign keys and indexes.
    prisma's own tool for this is one more binary."""
    enums = dict(re.findall(r"^enum (\w+) \{\n(.*?)^\}", schema, re.MULTILINE | re.DOTALL))
    types = TYPES | {name: f'"{name}"' for name in enums}
    statements = [
        f'create type "{name}" as enum ({", ".join(f"{value!r}" for value in values.split())});'
        for name, values in enums.items()
    ]
    for model, body in re.findall(r"^model (\w+) \{\n(.*?)^\}", schema, re.MULTILINE | re.DOTALL):
        columns, keys, names = [], [], {}
        for line in body.splitlines():
            line = line.split(" //")[0].strip()
            if line.startswith(("@@id", "@@unique")):
                fields = re.search(r"\[(.*?)\]", line)
                assert fields, line
                listed = ", ".join(f'"{names[name.split("(")[0].strip()]}"' for name in fields[1].split(","))
                keys.append(f"{'primary key' if line.startswith('@@id') else 'unique'} ({listed})")
            field = re.match(r"(\w+)\s+(\w+)(\[\])?(\?)?(.*)", line)
            if not field or field[2] not in types:
                continue
            name, kind, many, optional, more = field.groups()
            renamed = re.search(r'@map\("(\w+)"\)', more)
            names[name] = renamed[1] if renamed else name
            kind = "bigserial" if "autoincrement()" in more else types[kind]
            column = f'"{names[name]}" {kind}{many or ""}{"" if optional or many else " not null"}'
            default = re.search(r'@default\((now\(\)|"(?:[^"\\]|\\.)*"|true|false|\[\]|-?[\d.]+|\w+)\)', more)
            if default:
                text = default[1].replace("\\", "").strip('"').replace("[]", "{}" if many else "[]")
                column += " default " + ("now()" if default[1] == "now()" else f"'{text}'")
            column += " primary key" if "@id" in more else " unique" if re.search(r"@unique\b", more) else ""
            columns.append(column)
        mapped = re.search(r'@@map\("(\w+)"\)', body)
        statements.append(f'create table "{mapped[1] if mapped else model}" ({", ".join(columns + keys)});')
    return "\n".join(statements)


class Database:
    """In a directory that goes with it. Ends with `close`."""

    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="gw-postgres-")
        self.port = free_port()
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        path = os.pathsep.join([*map(str, reversed(programs)), os.environ["PATH"]])
        # It does not run as root.
        user = "postgres" if os.geteuid() == 0 else None
        if user:
            shutil.chown(self.directory, user)
        data = str(Path(self.directory, "data"))
        environment = {**os.environ, "PATH": path}

        def run(name: str, *arguments: str) -> list[str]:
            program = shutil.which(name, path=path)
            assert program is not None, f"there is no {name}: install PostgreSQL"
            return [program, *arguments]

        subprocess.run(
            run("initdb", "-D", data, "-U", "litellm", "-A", "trust", "--no-sync"),
            check=True,
            stdout=subprocess.DEVNULL,
            user=user,
            cwd=self.directory,
            env=environment,
        )
        with open(Path(self.directory, "log"), "wb") as log:
            self._process = subprocess.Popen(
                run("postgres", "-D", data, "-p", str(self.port), "-h", "127.0.0.1", "-k", "", "-F"),
                stdout=log,
                stderr=log,
                user=user,
                cwd=self.directory,
                env=environment,
            )
        self.url = f"postgresql://litellm@127.0.0.1:{self.port}/postgres"
        try:
            eventually(lambda: self._process.poll() is not None or self._psql("select 1").returncode == 0, 60)
            assert self._process.poll() is None, Path(self.directory, "log").read_text(errors="replace")[-2000:]
            self.run(tables(schema_file().read_text()))
        except BaseException:
            self.close()
            raise

    def _psql(self, sql: str) -> subprocess.CompletedProcess[str]:
        command = ["psql", "--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", self.url]
        return subprocess.run(command, input=sql, capture_output=True, text=True, check=False)

    def run(self, sql: str) -> str:
        """What psql prints of it."""
        done = self._psql(sql)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
