"""The package: built, installed into an empty environment, and the README's code runs from there."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import venv
import zipfile
from pathlib import Path

import pytest

from servers import Server

CLIENT = Path(__file__).parent.parent


ROOT = CLIENT.parent.parent

# What the README's parts of a program need around them, by their labels, and what that prints. The block comes in the
# place of BLOCK.
GATEWAY = """
import asyncio, types, redis.asyncio
from redis_gateway import AsyncGateway, CallFailed, Settings

client = redis.asyncio.Redis(port=6379)
gateway = AsyncGateway(client, Settings(timeout=10, connect_timeout=10))

async def account(key):
    policies = '{"policies":[{"name":"rpm","kind":"window","limit":1,"per_ms":3600000}]}'
    await gateway.commands.policy_put(key, policies)
"""
END = """
    await gateway.aclose()
    await client.aclose()

asyncio.run(main())
"""
PARTS = {
    "admission": (
        f"""{GATEWAY}
from types import SimpleNamespace as Response

async def call_the_model():
    return types.SimpleNamespace(tokens=20, price="0.001")

async def handle():
    BLOCK
    return Response(status_code=200)

async def main():
    await account("{{ml}}")
    await account("{{ml}}:key:7")
    print([(await handle()).status_code for _ in range(2)])
    {END}""",
        "[200, 429]\n",
    ),
    "routing": (
        f"""{GATEWAY}
called = []

async def call(target):
    called.append(target)
    if len(called) == 1:
        raise CallFailed("overloaded", retry_after=1)
    return types.SimpleNamespace(tokens=20)

async def main():
    for key in ["{{ml}}", "{{gpt}}:eu", "{{gpt}}:us"]:
        await account(key)
    BLOCK
    print(sorted(called))
    {END}""",
        "['{gpt}:eu', '{gpt}:us']\n",
    ),
    "away": (
        """
import redis
from redis_gateway import Away, Gateway, Kept, Local, Settings

settings = \\
BLOCK
with Gateway(redis.Redis(port=6379), settings) as gateway:
    print(settings.away.admission.requests)
""",
        "600\n",
    ),
}


def blocks() -> dict[str, str]:
    """The README's blocks, by their labels: what stands behind the three ticks. Each has one of its own."""
    found = re.findall(r"^```(.*)\n([^`]*?)^```$", (CLIENT / "README.md").read_text(), re.M)
    made = dict(found)
    assert len(made) == len(found)
    return made


EXAMPLES = ("example", "example-sync", "example-fake")


def test_every_block_of_the_readme_is_executed() -> None:
    executed = [f"python {name}" for name in (*EXAMPLES, *PARTS)] + [f"text {name}-output" for name in EXAMPLES]
    assert sorted(blocks()) == sorted([*executed, "sh install"])


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("package")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(where)]
    # The folder that the README installs. Built here, so that nothing is fetched for it.
    folder = blocks()["sh install"].removeprefix("pip install ").strip()
    subprocess.run(build, cwd=ROOT / folder, check=True, capture_output=True)
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


def run(python: Path, where: Path, program: str) -> str:
    file = where / "example.py"
    file.write_text(program)
    ran = subprocess.run([python, "-W", "error", str(file)], capture_output=True, text=True, cwd=where)
    assert (ran.returncode, ran.stderr) == (0, ""), program
    return ran.stdout


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_the_readme(server: Server, installed: Path, tmp_path: Path, name: str) -> None:
    program = blocks()[f"python {name}"].replace("6379", str(server.port)).replace("timeout=0.05", "timeout=10")
    program = program.replace("Gateway(redis.Redis(", "Gateway(settings=PATIENT, client=redis.Redis(")
    if "PATIENT" in program:
        program = "from redis_gateway import Settings\nPATIENT = Settings(timeout=10, connect_timeout=10)\n" + program
    assert run(installed, tmp_path, program) == blocks()[f"text {name}-output"]


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_a_program_of_the_readme(server: Server, installed: Path, tmp_path: Path, name: str) -> None:
    around, prints = PARTS[name]
    block = blocks()[f"python {name}"].replace("/var/lib/gateway/kept", str(tmp_path / "kept"))
    program = re.sub("^( *)BLOCK$", lambda found: textwrap.indent(block, found[1]), around, flags=re.M)
    assert run(installed, tmp_path, program.replace("6379", str(server.port))) == prints
