"""Makes _sync/ from _async/, in src/redis_gateway/ and in tests/: the same code without `async` and `await`.

    python tools/unasync.py            writes the files
    python tools/unasync.py --check    fails if a file is not as it would be written

`_runtime.py` is written by hand in all of them: it has what differs, such as tasks and threads.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLACES = [ROOT / "src" / "redis_gateway", ROOT / "tests"]
BY_HAND = {"_runtime.py"}
HEADER = "# Generated from ../_async/{name} by tools/unasync.py. Do not edit.\n"

# In this order. Each is a whole word, or a prefix of a word that ends in `(`.
WORDS = [
    (r"async def", "def"),
    (r"async with", "with"),
    (r"async for", "for"),
    (r"await ", ""),
    (r"__aenter__", "__enter__"),
    (r"__aexit__", "__exit__"),
    (r"__aiter__", "__iter__"),
    (r"__anext__", "__next__"),
    (r"\baclosing\b", "closing"),
    (r"\baclose\b", "close"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\bAsync(\w+)\b", r"\1"),
    (r"\b_async\b", "_sync"),
    (r"\baio_(\w+)", r"\1_client"),
    (r"redis\.asyncio\.", "redis."),
    (r"redis\.asyncio\b", "redis"),
]


def without_awaitable(line: str) -> str:
    """`Awaitable[X]` and `Coroutine[Any, Any, X]` are X where nothing is awaited."""
    for opening in ("Coroutine[Any, Any, ", "Awaitable["):
        while (start := line.find(opening)) >= 0:
            at, depth = start + len(opening), 1
            while depth:
                depth += {"[": 1, "]": -1}.get(line[at], 0)
                at += 1
            line = line[:start] + line[start + len(opening) : at - 1] + line[at:]
    return line


def converted(name: str, text: str) -> str:
    lines = [HEADER.format(name=name)]
    for line in text.splitlines(keepends=True):
        if line.rstrip().endswith("# async only"):
            continue
        if "import" in line:
            line = re.sub(r", (Awaitable|Coroutine)\b|\b(Awaitable|Coroutine), ", "", line)
        line = without_awaitable(line)
        for word, instead in WORDS:
            line = re.sub(word, instead, line)
        if line.startswith("from collections.abc import "):
            # What were two names may be one now.
            names = line.removeprefix("from collections.abc import ").strip().split(", ")
            line = f"from collections.abc import {', '.join(sorted(set(names)))}\n"
        lines.append(line)
    return "".join(lines)


def convert(place: Path, check: bool) -> list[str]:
    """Writes what is stale, or only says so."""
    stale: list[str] = []
    wanted = {path.name: converted(path.name, path.read_text()) for path in sorted((place / "_async").glob("*.py"))}
    for name, text in wanted.items():
        path = place / "_sync" / name
        if name in BY_HAND or (path.exists() and path.read_text() == text):
            continue
        stale.append(str(path.relative_to(ROOT)))
        if not check:
            path.write_text(text)
    for path in sorted((place / "_sync").glob("*.py")):
        if path.name not in wanted:
            stale.append(str(path.relative_to(ROOT)))
            if not check:
                path.unlink()
    return stale


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = [name for place in PLACES for name in convert(place, check)]
    for name in stale:
        print(f"{name} {'is stale: run tools/unasync.py' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
