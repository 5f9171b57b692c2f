#!/usr/bin/env python3
"""Checks conformance.md: the tests that it names exist, and languages that claim to be complete have no open cell."""

import re
import sys
from pathlib import Path

SPEC = Path(__file__).resolve().parent
#: The folder of each language's client, and what a test of the name {} looks like there.
LANGUAGES = {
    "Python": ("python", r"^\s*(async )?def {}\("),
    "TypeScript": ("typescript", r"\b(test|it)(\.each\([^)]*\))?\(\s*[\"'`]{}[\"'`]"),
    "Go": ("go", r"^func {}\("),
    "Rust": ("rust", r"\bfn {}\("),
}
OPEN = "–"
#: A cell of an item that says for which languages it is: "(languages that fork)".
NOT_HERE = "not here"


def rows(text: str) -> list[dict[str, str]]:
    """The rows of all tables, by the titles of their columns."""
    found: list[dict[str, str]] = []
    header: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if not cells:
            header = []
        elif not header:
            header = cells
        elif not set(line) <= set("|-: "):
            found.append(dict(zip(header, cells, strict=True)))
    return found


def problems_of(row: dict[str, str], language: str) -> list[str]:
    """What is wrong with the tests that a cell names."""
    folder, pattern = LANGUAGES[language]
    found = []
    for named in row[language].split("<br>"):
        path, separator, name = named.strip().strip("`").partition("::")
        file = SPEC.parent / folder / path
        if not separator:
            found.append(f"{row['Id']}: not `path::name`: {named}")
        elif not file.is_file():
            found.append(f"{row['Id']}: there is no clients/{folder}/{path}")
        elif not re.search(pattern.format(re.escape(name)), file.read_text(encoding="utf-8"), re.MULTILINE):
            found.append(f"{row['Id']}: there is no test {name} in clients/{folder}/{path}")
    return found


def main() -> int:
    text = (SPEC / "conformance.md").read_text(encoding="utf-8")
    items = rows(text)
    claimed = re.search(r"<!-- complete:(.*)-->", text)
    complete = {name.strip() for name in claimed[1].split(",") if name.strip()} if claimed else set()
    problems = [f"not a language: {name}" for name in sorted(complete - set(LANGUAGES))]
    ids = [row["Id"] for row in items]
    problems += [f"{one}: twice" for one in sorted({one for one in ids if ids.count(one) > 1})]
    for language in LANGUAGES:
        for row in items:
            if row[language] == NOT_HERE and "(languages that " in " ".join(row.values()):
                continue
            if row[language] != OPEN:
                problems += problems_of(row, language)
            elif language in complete:
                problems.append(f"{row['Id']}: {language} has no test")
    for problem in problems:
        print(problem, file=sys.stderr)
    for language in LANGUAGES:
        tested = sum(row[language] != OPEN for row in items)
        if tested:
            print(f"{language}: {tested} of {len(items)} items of the conformance list have a test")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
