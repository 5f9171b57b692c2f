"""The example runs with one command, and the README shows what it has and prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from proxies import SOURCES
from servers import binary, missing, module

HERE = Path(__file__).parents[1]


def block(kind: str) -> str:
    found = re.search(rf"```{kind}\n(.*?)```", (HERE / "README.md").read_text(), re.DOTALL)
    assert found, kind
    return found[1]


@pytest.mark.long
def test_the_example_prints_what_the_readme_says() -> None:
    if missing():
        pytest.skip(str(missing()))
    command = [sys.executable, str(HERE / "example" / "run.py"), "--server", str(binary()), "--module", str(module())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(SOURCES)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.stdout == block("text example-output"), done.stdout + done.stderr


def test_what_is_missing_is_told() -> None:
    command = [sys.executable, str(HERE / "example" / "run.py")]
    for given, text in (
        (["--server", "no-such-server", "--module", __file__], "there is no no-such-server: name one with --server\n"),
        (["--server", sys.executable, "--module", "no.so"], "there is no no.so: cargo build --release makes it\n"),
    ):
        done = subprocess.run([*command, *given], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (1, text)


def test_the_readme_shows_the_configuration() -> None:
    line = block("yaml").splitlines()
    assert line == [text for text in (HERE / "example" / "config.yaml").read_text().splitlines() if text in line]
    assert any("redis_gateway_litellm.gateway" in text for text in line)


def test_every_setting_is_in_the_readme() -> None:
    source = (HERE / "src" / "redis_gateway_litellm" / "settings.py").read_text()
    names = re.findall(r"^    (\w+): \w+ = ", source, re.MULTILINE)
    text = (HERE / "README.md").read_text()
    assert len(names) > 15
    assert [name for name in names if f"| `{name}` |" not in text] == []
