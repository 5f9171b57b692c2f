"""The packages of this version, and a Debian to install them into."""

import os
import pathlib
import shutil
import subprocess
import tarfile

import pytest
from common import ROOT, run


@pytest.fixture(scope="session")
def dist(tmp_path_factory):
    """The folder of the packages: those in GW_DIST if it is given, otherwise built as for a release. What is in the archive is
    in its folder `unpacked`."""
    folder = tmp_path_factory.mktemp("dist")
    if made := os.environ.get("GW_DIST"):
        for file in pathlib.Path(made).iterdir():
            (folder / file.name).symlink_to(file.resolve())
    else:
        # Not of what was built for the tests.
        env = {key: value for key, value in os.environ.items() if key not in ("GW_MODULE", "GW_COMPANION")}
        subprocess.run([ROOT / "scripts/dist.sh"], check=True, env=env | {"GW_DIST": str(folder)}, cwd=ROOT)
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        content.extractall(folder / "unpacked", filter="data")
    return folder


@pytest.fixture(scope="session")
def debian_base():
    """A fresh Debian with what the package depends on, made once. Tests copy it."""
    base = ROOT / ".tools/debian"
    if not (base / "lib/systemd/system/sysinit.target").exists():
        shutil.rmtree(base, ignore_errors=True)
        run("debootstrap", "--variant=minbase", "bookworm", base)
        # The server's package would start it.
        (base / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
        (base / "usr/sbin/policy-rc.d").chmod(0o755)
        run("chroot", base, "apt-get", "-qq", "update")
        run("chroot", base, "apt-get", "-qq", "install", "-y", "--no-install-recommends", "redis-server", "adduser", "systemd")
        run("chroot", base, "apt-get", "clean")
    return base
