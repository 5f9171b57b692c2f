"""The images' recipes and the compose file, without a container engine: linted, complete, and consistent with each other."""

import fnmatch
import os
import re
import shutil
import subprocess
import tomllib

import pytest
import yaml
from common import ROOT

DOCKERFILES = sorted((ROOT / "deploy/images").glob("Dockerfile.*"))
# The official images that those of the servers stand on.
OFFICIAL = {
    "redis": "redis:8",
    "valkey": "valkey/valkey:9",
    "redis-alpine": "redis:8-alpine",
    "valkey-alpine": "valkey/valkey:9-alpine",
}


def name(file) -> str:
    return file.name.removeprefix("Dockerfile.")


@pytest.mark.parametrize("file", DOCKERFILES, ids=name)
def test_hadolint_has_nothing_to_say(file):
    told = subprocess.run(["hadolint", "--config", ROOT / ".hadolint.yaml", file], capture_output=True, text=True)
    assert told.returncode == 0, told.stdout


@pytest.mark.parametrize("file", DOCKERFILES, ids=name)
def test_an_image_is_what_it_should_be(file):
    lines = re.sub(r"\\\n\s*", "", file.read_text()).splitlines()
    words = [line.split() for line in lines if line and not line.startswith("#")]
    bases = [line[1] for line in words if line[0] == "FROM"]
    users = [line[1] for line in words if line[0] == "USER"]
    assert users and users[-1] not in ("0", "root")
    assert bases[-1] == OFFICIAL.get(name(file), bases[-1])
    if name(file) != "traffic":
        toolchain = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
        assert bases[0].startswith(f"rust:{toolchain.rpartition('.')[0]}-")
        assert any(line[0] == "HEALTHCHECK" for line in words)


def test_what_is_sent_to_the_builder_is_enough_and_no_more(tmp_path):
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    sent = [file for file in files if any(file == path or file.startswith(path + "/") for path in kept)]
    assert len(sent) < len(files) and not any(fnmatch.fnmatch(file, "*/node_modules/*") for file in sent)
    for file in sent:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    subprocess.run(
        ["cargo", "metadata", "--locked", "--format-version", "1"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL
    )
    for file in sent:
        # What the compiler reads besides sources.
        if file.endswith(".rs") and file.startswith(("src/", "core/src/", "companion/src/", "clients/rust/src/")):
            for found in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', (ROOT / file).read_text()):
                assert (tmp_path / file).parent.joinpath(found).exists(), f"{file}: {found}"
    for file in DOCKERFILES:
        for line in file.read_text().splitlines():
            source = re.match(r"COPY (?:--chmod=\d+ )?((?:deploy)/\S+) ", line)
            assert not source or (tmp_path / source[1]).exists(), line


def test_the_compose_file_is_valid_and_what_it_names_is_there():
    file = ROOT / "deploy/compose.yaml"
    told = subprocess.run([os.environ["COMPOSE_GO"], file], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    services = yaml.safe_load(file.read_text())["services"]
    for service in services.values():
        if build := service.get("build"):
            assert (ROOT / build["dockerfile"]).exists()
        else:
            # A version, not what it happens to be today.
            assert re.search(r":[\w.-]*\d", service["image"])
        for volume in service.get("volumes", []):
            if volume.startswith("."):
                assert (file.parent / volume.split(":")[0]).exists(), volume
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_companion_accepts_the_configuration_of_the_compose_file():
    environment = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]["companion"]["environment"]
    config = ROOT / "deploy/compose/gw.toml"
    told = subprocess.run(
        [os.environ["GW_COMPANION"], "run", "--check", "--config", config], env=environment, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
