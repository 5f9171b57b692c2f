"""`make install` and `make uninstall`."""

import os
import subprocess

from common import ROOT, files_under


def test_install_and_uninstall_follow_the_variables(tmp_path):
    variables = [
        f"DESTDIR={tmp_path}", "prefix=/opt/gw", "libdir=/opt/lib64", f"MODULE={os.environ['GW_MODULE']}",
        f"COMPANION={os.environ['GW_COMPANION']}",
    ]  # fmt: skip
    told = subprocess.run(["make", "install", *variables], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "loadmodule /opt/lib64/redis/modules/libredis_gateway.so" in told
    assert files_under(tmp_path) == {
        "opt/lib64/redis/modules/libredis_gateway.so", "opt/gw/bin/gw", "opt/gw/share/man/man1/gw.1",
        "opt/gw/share/doc/redis-gateway/redis.conf", "opt/gw/share/doc/redis-gateway/gw.toml",
        "opt/gw/share/doc/redis-gateway/LICENSE",
    }  # fmt: skip
    subprocess.run(["make", "uninstall", *variables], cwd=ROOT, check=True, capture_output=True)
    assert files_under(tmp_path) == set()
