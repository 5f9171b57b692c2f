"""The release itself, which takes its time: built against the oldest glibc, loaded on every server, and its .deb installed into
a fresh Debian, run by its units' own command lines, and removed without a trace. Needs root, debootstrap and network
namespaces."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from common import Server, await_until, run

OLDEST_GLIBC = (2, 28)
UNITS = ("redis-gateway", "redis-gateway-companion")


@pytest.mark.parametrize("file", ["libredis_gateway.so", "gw"])
def test_no_newer_glibc_is_needed_than_the_oldest_that_is_supported(dist, file):
    [path] = dist.glob(f"unpacked/*/{file}")
    versions = {tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([0-9.]+)\)", run("objdump", "-T", path))}
    print(f"{file} needs glibc {'.'.join(map(str, max(versions)))}")
    assert versions and max(versions) <= OLDEST_GLIBC


def test_the_module_needs_no_library_beside_that_of_c(dist):
    [module] = dist.glob("unpacked/*/libredis_gateway.so")
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", module))
    # Images of servers may lack libgcc_s.
    assert needed and all(re.match(r"(libc|libm|libdl|libpthread|librt|ld-linux.*)\.so", name) for name in needed), needed


@pytest.mark.parametrize("server", os.environ["GW_SERVER_PATHS"].split(":"))
def test_the_module_loads_on_every_server(dist, server, monkeypatch):
    monkeypatch.setenv("GW_SERVER_PATH", server)
    [module] = dist.glob("unpacked/*/libredis_gateway.so")
    with Server(module) as running:
        assert running.client.execute_command("GW.ALLOW", "user:1", 10)[0] == 1
        with pytest.raises(Exception, match="missing value: WINDOW"):
            running.client.execute_command("GW.ALLOW", "user:1", 10, "WINDOW")


@pytest.fixture(scope="module")
def debian(tmp_path_factory, debian_base):
    root = tmp_path_factory.mktemp("debian") / "root"
    run("cp", "-a", "--reflink=auto", debian_base, root)
    return root


def files_of(root: pathlib.Path) -> dict[str, tuple[int, int]]:
    """All files by name, without logs and what dpkg keeps about packages."""
    skipped = re.compile(r"/(?:var/(?:log|cache|lib/(?:dpkg|apt|systemd))|run|tmp|dev|proc)(?:/|$)|-$|ld\.so\.cache")
    names = (pathlib.Path(folder, name) for folder, folders, files in os.walk(root) for name in folders + files)
    files = {"/" + str(path.relative_to(root)): path for path in names}
    return {name: (path.lstat().st_mode, path.lstat().st_uid) for name, path in files.items() if not skipped.search(name)}


def command_line(root: pathlib.Path, unit: str) -> list[str]:
    text = (root / f"usr/lib/systemd/system/{unit}.service").read_text()
    return shlex.split(re.search(r"^ExecStart=(.+)$", text, re.M)[1])


def test_the_debian_package_runs_and_leaves_without_a_trace(dist, debian):
    before, users = files_of(debian), (debian / "etc/passwd").read_text()
    [package] = dist.glob("*.deb")
    shutil.copy(package, debian / "tmp/package.deb")
    run("chroot", debian, "dpkg", "--install", "/tmp/package.deb")
    for unit in UNITS:
        path = debian / f"usr/lib/systemd/system/{unit}.service"
        run("systemd-analyze", "--man=no", f"--root={debian}", "verify", f"/usr/lib/systemd/system/{unit}.service")
        # 0 is no exposure, 10 all of it; 2 is what Debian calls OK.
        run("systemd-analyze", "security", "--offline=true", "--threshold=20", path)

    as_user = ["chroot", "--userspec=redis-gateway:redis-gateway", debian]
    # A network of its own: port 6379 may be taken here.
    alone = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    log = (debian / "tmp/log").open("w+")
    output = {"stdout": log, "stderr": log}
    server = subprocess.Popen([*map(str, [*alone, *as_user]), *command_line(debian, UNITS[0])], **output)
    beside = ["nsenter", f"--net=/proc/{server.pid}/ns/net"]
    companion = None
    try:

        def ask(*words) -> str:
            told = subprocess.run([*map(str, [*beside, "chroot", debian, "redis-cli"]), *words], capture_output=True, text=True)
            return told.stdout.strip()

        await_until("the server", lambda: ask("PING") == "PONG")
        assert ask("GW.ALLOW", "user:1", "10").splitlines()[0] == "1"
        assert ask("CONFIG", "GET", "dir").endswith("/var/lib/redis-gateway")
        # As Sentinel has it done.
        assert ask("CONFIG", "REWRITE") == "OK"
        words = [*beside, *as_user, *command_line(debian, UNITS[1])]
        companion = subprocess.Popen([str(word) for word in words], **output)
        get = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9464/metrics').read().decode())"

        def metrics():
            return subprocess.run([*beside, sys.executable, "-c", get], capture_output=True, text=True).stdout

        await_until("the companion", lambda: 'gw_up{node="127.0.0.1:6379",role="primary"} 1' in metrics())
    except BaseException:
        log.seek(0)
        print(log.read())
        raise
    finally:
        for process in filter(None, (companion, server)):
            process.terminate()
            process.wait(30)
        log.close()
    run("chroot", debian, "dpkg", "--purge", "redis-gateway")
    left = files_of(debian)
    assert {name for name in left if name not in before} == set()
    assert {name for name in before if left.get(name) != before[name]} == set()
    assert (debian / "etc/passwd").read_text() == users
