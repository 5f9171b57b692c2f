"""The packages of this version, which conftest.py has made: what is in them, and that it works."""

import gzip
import hashlib
import json
import os
import re
import subprocess
import tomllib
import zipfile

import pytest
from common import ROOT, Server, files_under

VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
MACHINE = os.uname().machine
NAME = f"redis-gateway-{VERSION}-linux-{MACHINE}"
DEB = f"redis-gateway_{VERSION}_{ {'x86_64': 'amd64', 'aarch64': 'arm64'}[MACHINE] }.deb"


def test_the_sums_are_those_of_all_files(dist):
    for folder in (dist, dist / "unpacked" / NAME):
        lines = (folder / "SHA256SUMS").read_text().splitlines()
        sums = {line.split()[1]: line.split()[0] for line in lines}
        there = {file.name for file in folder.iterdir() if file.is_file()} - {"SHA256SUMS"}
        assert set(sums) == there and there
        for name, told in sums.items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == told


def test_the_archive_has_what_a_server_needs(dist):
    folder = dist / "unpacked" / NAME
    assert files_under(folder) == {
        "libredis_gateway.so", "gw", "redis.conf", "gw.toml", "LICENSE", "CHANGELOG.md", "SHA256SUMS", "gw.cdx.json",
        "gw.licenses.txt", "redis-gateway.cdx.json", "redis-gateway.licenses.txt",
    }  # fmt: skip
    told = subprocess.run([folder / "gw", "--version"], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["gw", VERSION]
    with Server(folder / "libredis_gateway.so") as server:
        [told] = server.client.execute_command("MODULE", "LIST")
        module = dict(zip(told[::2], told[1::2], strict=True))
        numbers = [int(part) for part in VERSION.split(".")]
        assert module["name"] == "gw" and module["ver"] == numbers[0] * 10_000 + numbers[1] * 100 + numbers[2]
        assert server.client.execute_command("GW.ALLOW", "user:1", 10)[0] == 1


@pytest.mark.parametrize("part", ["redis-gateway", "gw"])
def test_all_that_is_linked_is_listed_with_its_licence(dist, part):
    folder = dist / "unpacked" / NAME
    bill = json.loads((folder / f"{part}.cdx.json").read_text())
    assert bill["metadata"]["component"]["version"] == VERSION
    names = {f"{one['name']} {one['version']}" for one in bill["components"]}
    assert any(name.startswith("gateway-core ") for name in names) and len(names) > 20
    texts = (folder / f"{part}.licenses.txt").read_text()
    assert all(name in texts for name in names)
    # Tests and build scripts are not linked.
    assert not any(name.startswith(("proptest ", "bindgen ", "gw-testkit ")) for name in names)


def test_the_zip_says_what_the_module_is(dist):
    with zipfile.ZipFile(dist / f"{NAME}.zip") as archive:
        assert set(archive.namelist()) == {"module.json", "libredis_gateway.so", "LICENSE"}
        told = json.loads(archive.read("module.json"))
        assert told["sha256"] == hashlib.sha256(archive.read("libredis_gateway.so")).hexdigest()
    assert (told["module_name"], told["semantic_version"]) == ("gw", VERSION)
    commands = {command["command_name"]: command for command in told["commands"]}
    with Server(dist / "unpacked" / NAME / "libredis_gateway.so") as server:
        known = server.client.execute_command("COMMAND", "LIST", "FILTERBY", "MODULE", "gw")
        public = {name.lower() for name in known if not name.lower().startswith("gw._")}
        assert set(commands) == public
        for name in public:
            [info] = server.client.execute_command("COMMAND", "INFO", name)
            assert commands[name]["command_arity"] == info[1], name


def test_the_package_of_debian_has_units_that_systemd_accepts(dist, tmp_path):
    subprocess.run(["dpkg-deb", "-x", dist / DEB, tmp_path], check=True)
    fields = subprocess.run(["dpkg-deb", "-f", dist / DEB, "Version"], capture_output=True, text=True, check=True)
    assert fields.stdout.strip() == VERSION
    conf = (tmp_path / "etc/redis-gateway/redis.conf").read_text()
    assert re.search(r"^dir /var/lib/redis-gateway$", conf, re.M)
    assert re.search(r"^loadmodule /usr/lib/redis/modules/libredis_gateway.so$", conf, re.M)
    assert gzip.decompress((tmp_path / "usr/share/man/man1/gw.1.gz").read_bytes()).startswith(b".ie")
