#!/usr/bin/env python3
"""Writes what the clients have in common, and what is generated from it. With --check it only tells what is stale.

generate.py table     commands.json, from a server with the module
generate.py vectors   what every client must pass, from a server
generate.py python    the low level of clients/python, from commands.json, replies.json and errors.json
generate.py go        the low level of clients/go, from the same
generate.py typescript   that of clients/typescript
generate.py rust      that of clients/rust
generate.py all       all of these
"""

import argparse
import sys

from gwspec import table, vectors
from gwspec.golang import Golang
from gwspec.model import Spec
from gwspec.paths import ROOT, SPEC, Output, Stale, dump, load
from gwspec.python import Python
from gwspec.rust import Rust
from gwspec.server import Server
from gwspec.typescript import TypeScript


def write_table(output: Output) -> None:
    with Server() as server, server.connect() as connection:
        output.write(SPEC / "commands.json", dump(table.read(connection)))


def load_spec() -> Spec:
    return Spec(load(SPEC / "commands.json")["commands"], load(SPEC / "replies.json"), load(SPEC / "errors.json"))


def write_python(output: Output) -> None:
    for name, text in Python(load_spec()).files().items():
        output.write(ROOT / "clients/python/src/redis_gateway" / name, text)


def write_go(output: Output) -> None:
    for name, text in Golang(load_spec()).files().items():
        output.write(ROOT / "clients/go/commands" / name, text)


def write_typescript(output: Output) -> None:
    for name, text in TypeScript(load_spec()).files().items():
        output.write(ROOT / "clients/typescript/src" / name, text)


def write_rust(output: Output) -> None:
    for name, text in Rust(load_spec()).files().items():
        output.write(ROOT / "clients/rust" / name, text)


def write_vectors(output: Output) -> None:
    vectors.write(load_spec(), output)


STEPS = {
    "table": write_table,
    "vectors": write_vectors,
    "python": write_python,
    "typescript": write_typescript,
    "go": write_go,
    "rust": write_rust,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*STEPS, "all"])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if anything is stale")
    args = parser.parse_args()
    output = Output(args.check)
    try:
        for name, step in STEPS.items():
            if args.what in (name, "all"):
                step(output)
        output.finish()
    except (Stale, FileNotFoundError, AssertionError, ValueError) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
