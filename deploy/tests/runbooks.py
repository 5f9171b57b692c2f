"""The runbooks' commands, on servers with data: each block of docs/src/operating/runbooks.md does what the page says."""

import os
import pathlib
import re
import subprocess

import pytest
import redis
from common import ROOT, await_until, free_port

PAGE = (ROOT / "docs/src/operating/runbooks.md").read_text()
BLOCKS = dict(re.findall(r"^```sh runbook-(\w+)\n(.*?)^```", PAGE, re.M | re.S))


class Place:
    """A primary with a replica, another server, and what the page's variables name."""

    def __init__(self, folder: pathlib.Path):
        self.servers = {}
        self.folder = folder
        self.ports = {name: free_port() for name in ("PRIMARY", "REPLICA", "OTHER", "RESTORED_PORT")}
        for name in ("data", "replica", "other", "backups", "restored", "bin"):
            (folder / name).mkdir()
        (folder / "bin/redis-server").symlink_to(os.environ["GW_SERVER_PATH"])
        self.env = os.environ | {name: str(port) for name, port in self.ports.items()}
        self.env |= {"DATA": str(folder / "data"), "BACKUPS": str(folder / "backups"), "RESTORED": str(folder / "restored")}
        self.env |= {"MODULE": os.environ["GW_MODULE"], "PATH": f"{folder}/bin:{os.environ['PATH']}"}
        self.start("PRIMARY", "data", "--appendonly", "yes")
        self.start("REPLICA", "replica", "--replicaof", "127.0.0.1", str(self.ports["PRIMARY"]))
        self.start("OTHER", "other")
        for name in self.servers:
            await_until(name, lambda name=name: self.answers(name))
        await_until("the replica", lambda: self.client("REPLICA").info("replication").get("master_link_status") == "up")

    def start(self, name: str, folder: str, *more):
        words = [os.environ["GW_SERVER_PATH"], "--port", str(self.ports[name]), "--dir", str(self.folder / folder)]
        words += ["--repl-diskless-sync-delay", "0", "--loadmodule", os.environ["GW_MODULE"], *more]
        log = (self.folder / f"{folder}.log").open("w")
        self.servers[name] = subprocess.Popen(words, stdout=log, stderr=log)

    def client(self, name: str) -> redis.Redis:
        return redis.Redis(port=self.ports[name], decode_responses=True, protocol=2)

    def answers(self, name: str) -> bool:
        try:
            return self.client(name).ping()
        except redis.ConnectionError:
            return False

    def run(self, name: str, **more) -> str:
        words = ["timeout", "60", "bash", "-euo", "pipefail", "-c", BLOCKS[name]]
        told = subprocess.run(words, env=self.env | more, capture_output=True, text=True)
        assert told.returncode == 0, f"{name}\n{told.stdout}{told.stderr}"
        assert "ERR" not in told.stdout, told.stdout
        return told.stdout

    def stop(self):
        pid = self.folder / "restored/pid"
        if pid.exists():
            self.client("RESTORED_PORT").shutdown(nosave=True)
        for server in self.servers.values():
            server.kill()
            server.wait()


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    client = place.client("PRIMARY")
    for tenant in ("acme", "other"):
        client.execute_command("GW.POLICYSET", f"{{{tenant}}}:key:7", "day", "BUDGET", 20, "DAY")
        client.execute_command("GW.ADDCOST", f"{{{tenant}}}:spend", 1.25)
    yield place
    place.stop()


def spent(client: redis.Redis, key: str):
    return client.execute_command("GW.SPENT", key, "TOTAL")


def test_every_block_is_tested():
    assert set(BLOCKS) == {"backup", "restore", "upgrade", "rollback", "move", "rotate", "capacity"}
    assert PAGE.count("```sh") == len(BLOCKS)


def test_a_backup_is_restored_as_it_was(place):
    before = spent(place.client("PRIMARY"), "{acme}:spend")
    place.run("backup")
    # What happens later is not in it.
    place.client("PRIMARY").execute_command("GW.ADDCOST", "{acme}:spend", 5)
    place.run("restore")
    restored = place.client("RESTORED_PORT")
    assert spent(restored, "{acme}:spend") == before != spent(place.client("PRIMARY"), "{acme}:spend")
    assert restored.config_get("appendonly") == {"appendonly": "yes"}
    assert restored.dbsize() == place.client("PRIMARY").dbsize()


def test_an_upgrade_hands_over_and_a_rollback_hands_back(place):
    before = spent(place.client("PRIMARY"), "{acme}:spend")
    place.run("upgrade")
    assert place.client("REPLICA").role()[0] == "master" and place.client("PRIMARY").role()[0] == "slave"
    place.run("rollback")
    assert place.client("PRIMARY").role()[0] == "master" and place.client("REPLICA").role()[0] == "slave"
    assert spent(place.client("PRIMARY"), "{acme}:spend") == before
    assert (place.folder / "backups/libredis_gateway.so").exists()


def test_a_tenant_moves_with_all_that_is_its(place):
    before = spent(place.client("PRIMARY"), "{acme}:spend")
    left, there = place.run("move").split()[-2:]
    assert (left, there) == ("0", "2")
    other = place.client("OTHER")
    assert spent(other, "{acme}:spend") == before
    assert other.execute_command("GW.POLICYLIST", "{acme}:key:7")
    assert place.client("PRIMARY").exists("{other}:spend") == 1 and other.exists("{other}:spend") == 0


def test_a_password_is_rotated(place):
    client = place.client("PRIMARY")
    client.execute_command("ACL", "SETUSER", "gateway", "on", ">old", "~*", "+@all")
    place.run("rotate", OLD_PASSWORD="old", NEW_PASSWORD="new")
    assert redis.Redis(port=place.ports["PRIMARY"], username="gateway", password="new").ping()
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=place.ports["PRIMARY"], username="gateway", password="old").ping()


def test_capacity_is_told(place):
    told = place.run("capacity")
    assert "used_memory:" in told and "cmdstat_gw.addcost" in told
