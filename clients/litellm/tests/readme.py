"""The README's blocks, by their labels: what stands behind the three ticks."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def blocks() -> dict[str, str]:
    found = re.findall(r"^```(.+)\n([^`]*?)^```$", README.read_text(), re.MULTILINE)
    made = dict(found)
    assert len(made) == len(found), "two blocks of the README have one label"
    return made
