"""The package: built, installed into an empty environment, and the README's examples run from there."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from servers import Server

CLIENT = Path(__file__).parent.parent


def blocks() -> dict[str, str]:
    """The README's blocks that have names."""
    text = (CLIENT / "README.md").read_text()
    return dict(re.findall(r"^```\w+ ([\w-]+)\n(.*?)^```$", text, re.M | re.S))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("package")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(where)]
    subprocess.run(build, cwd=CLIENT, check=True, capture_output=True)
    (wheel,) = where.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "redis_gateway/py.typed" in names and not any("tests/" in name for name in names)
    venv.create(where / "environment")
    python = where / "environment" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run([*pip, "install", "--quiet", str(wheel)], check=True, cwd=where)
    listed = subprocess.run([*pip, "list", "--format=freeze"], check=True, capture_output=True, text=True)
    others = {line.split("==")[0].lower() for line in listed.stdout.splitlines()}
    # redis-py, and what it needs itself.
    assert others <= {"redis", "redis-gateway", "redis_gateway", "async-timeout", "pyjwt"}, others
    return python


@pytest.mark.parametrize("name", [name for name in blocks() if f"{name}-output" in blocks()])
def test_an_example_of_the_readme(server: Server, installed: Path, tmp_path: Path, name: str) -> None:
    program = blocks()[name].replace("6379", str(server.port)).replace("timeout=0.05", "timeout=10")
    program = program.replace("Gateway(redis.Redis(", "Gateway(settings=PATIENT, client=redis.Redis(")
    if "PATIENT" in program:
        program = "from redis_gateway import Settings\nPATIENT = Settings(timeout=10, connect_timeout=10)\n" + program
    file = tmp_path / "example.py"
    file.write_text(program)
    ran = subprocess.run([installed, "-W", "error", str(file)], capture_output=True, text=True, cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "") and ran.stdout == blocks()[f"{name}-output"]
