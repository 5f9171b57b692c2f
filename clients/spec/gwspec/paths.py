"""Where things are, and how generated files are written."""

import json
from pathlib import Path
from typing import Any

SPEC = Path(__file__).resolve().parent.parent
ROOT = SPEC.parent.parent
REFERENCE = ROOT / "docs" / "src" / "reference"
VECTORS = SPEC / "vectors"


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def dump(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


class Stale(Exception):
    """Committed files differ from what would be generated."""


class Output:
    """Writes generated files, or with `check` compares them with those that are there."""

    def __init__(self, check: bool) -> None:
        self.check = check
        self.stale: list[str] = []

    def write(self, path: Path, text: str) -> None:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return
        if self.check:
            self.stale.append(str(path.relative_to(ROOT)))
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def finish(self) -> None:
        if self.stale:
            raise Stale(f"stale: {', '.join(self.stale)}: run `make clients-spec`")
