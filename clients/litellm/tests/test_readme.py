"""The README's blocks are executed: as they stand, but for the paths of this machine, and with nothing fetched."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import yaml

from proxies import README_CONFIGURATION, SOURCES, Stack, configuration
from readme import README, blocks
from servers import ROOT, binary, missing, module

HERE = Path(__file__).parents[1]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    around = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, env=around, cwd=ROOT)


def test_every_block_is_executed() -> None:
    executed = ["sh install", "yaml", "sh example", "text example-output", "sh tests"]
    assert sorted(blocks()) == sorted(executed)


def test_the_proxies_start_with_the_configuration(lone_stack: Stack) -> None:
    """All proxies of these tests do: other plugins are named behind it."""
    (name,) = README_CONFIGURATION["litellm_settings"]["callbacks"]
    assert configuration(0, {})["litellm_settings"]["callbacks"][0] == name
    assert lone_stack.chat(lone_stack.key("readme", rpm_limit=1)).headers["x-ratelimit-limit-requests"] == "1"


@pytest.mark.long
def test_what_is_installed_is_the_package(tmp_path: Path) -> None:
    """Into an empty environment, in which the packages of this one stand for litellm[proxy]."""
    command, action, litellm, *folders = shlex.split(blocks()["sh install"])
    assert (command, action, litellm) == ("pip", "install", "litellm[proxy]")
    for folder in folders:
        build = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path))
        done = subprocess.run(build, cwd=ROOT / folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    venv.create(tmp_path / "environment", with_pip=True)
    python = str(tmp_path / "environment" / "bin" / "python")
    wheels = [str(wheel) for wheel in tmp_path.glob("*.whl")]
    done = run(python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", *wheels)
    assert done.returncode == 0, done.stderr
    (packages,) = (tmp_path / "environment").glob("lib/python*/site-packages")
    (packages / "litellm-proxy.pth").write_text(sysconfig.get_path("purelib"))
    told = "import redis_gateway_litellm as one, redis_gateway as two; print(one.__file__, two.__file__, one.gateway)"
    done = run(python, "-c", told)
    assert done.stdout.count(str(packages)) == 2 and "GatewayLogger" in done.stdout, done.stdout + done.stderr


@pytest.mark.long
def test_the_example_prints_what_the_readme_says(tmp_path: Path) -> None:
    """With the README's configuration in the place of the example's own."""
    if missing():
        pytest.skip(str(missing()))
    example = shutil.copytree(HERE / "example", tmp_path / "example")
    own = yaml.safe_load((example / "config.yaml").read_text())
    (example / "config.yaml").write_text(yaml.safe_dump({**own, **README_CONFIGURATION}))
    command = blocks()["sh example"].strip()
    for text, here in (
        ("python ", f"{sys.executable} "),
        ("clients/litellm/example", str(example)),
        ("--server redis-server", f"--server {binary()}"),
        ("target/release/libredis_gateway.so", str(module())),
    ):
        assert command.count(text) == 1, text
        command = command.replace(text, here)
    done = run("sh", "-c", command, PYTHONPATH=os.pathsep.join(SOURCES))
    assert done.stdout == blocks()["text example-output"], done.stdout + done.stderr


@pytest.mark.long
def test_the_tests_are_found_as_the_readme_runs_them() -> None:
    """These here, and only collected: this is one of them."""
    install, tests = blocks()["sh tests"].splitlines()
    *command, requirements, _, client, _, plugin = shlex.split(install)
    assert command == ["pip", "install", "-r"]
    assert all((ROOT / folder / "pyproject.toml").exists() for folder in (client, plugin))
    # All is there, so nothing would be fetched.
    done = run(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-index", "-r", requirements)
    assert done.returncode == 0, done.stderr
    tests = tests.replace("../../target/release/libredis_gateway.so", str(module()))
    tests = re.sub(r"pytest$", f"{sys.executable} -m pytest -p no:cacheprovider --collect-only {__file__}", tests)
    done = run("sh", "-ec", tests)
    assert done.returncode == 0 and f"{Path(__file__).name}::" in done.stdout, done.stdout + done.stderr


def test_what_is_missing_is_told() -> None:
    command = [sys.executable, str(HERE / "example" / "run.py")]
    for given, text in (
        (["--server", "no-such-server", "--module", __file__], "there is no no-such-server: name one with --server\n"),
        (["--server", sys.executable, "--module", "no.so"], "there is no no.so: cargo build --release makes it\n"),
    ):
        done = run(*command, *given)
        assert (done.returncode, done.stderr) == (1, text)


def test_every_setting_is_in_the_readme() -> None:
    source = (HERE / "src" / "redis_gateway_litellm" / "settings.py").read_text()
    names = re.findall(r"^    (\w+): \w+ = ", source, re.MULTILINE)
    text = README.read_text()
    assert len(names) > 15
    assert [name for name in names if f"| `{name}` |" not in text] == []
