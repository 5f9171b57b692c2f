"""What the tests of `deploy/` share."""

import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

import redis

ROOT = pathlib.Path(__file__).resolve().parents[2]
OBSERVE = ROOT / "deploy/observe"
# How long anything may take to come about, in seconds.
DEADLINE_SECONDS = 60


def await_until(what: str, check):
    """Awaits that `check` returns something, and returns it."""
    until = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < until:
        if found := check():
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {DEADLINE_SECONDS} s: {what}")


def prometheus_program(name: str) -> str:
    """A program of Prometheus: the system's, or the one that scripts/deploy.sh has unpacked."""
    unpacked = ROOT / ".tools/prometheus/usr/bin" / name
    found = str(unpacked) if unpacked.exists() else shutil.which(name)
    assert found, f"there is no {name}: scripts/deploy.sh unpacks it"
    return found


def run(*words, **more) -> str:
    """What a program prints; fails with all of it if the program fails."""
    told = subprocess.run([str(word) for word in words], capture_output=True, text=True, **more)
    assert told.returncode == 0, f"{words}\n{told.stdout}{told.stderr}"
    return told.stdout


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def files_under(folder) -> set[str]:
    """The names of all files in a folder."""
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir()}


class Server:
    """A server with a build of the module, for the time of a `with` block."""

    def __init__(self, module):
        self.module = module

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        port = free_port()
        words = [os.environ["GW_SERVER_PATH"], "--port", str(port), "--dir", self.folder.name, "--save", ""]
        self.log = pathlib.Path(self.folder.name, "log").open("w+")
        self.process = subprocess.Popen([*words, "--loadmodule", str(self.module)], stdout=self.log, stderr=self.log)
        self.client = redis.Redis(port=port, decode_responses=True, protocol=2)
        # Replies as they are.
        self.client.response_callbacks.clear()
        await_until("the server", self.answers)
        return self

    def answers(self) -> bool:
        if self.process.poll() is not None:
            self.log.seek(0)
            raise AssertionError(self.log.read())
        try:
            return self.client.execute_command("PING") == "PONG"
        except (redis.ConnectionError, redis.BusyLoadingError):
            return False

    def __exit__(self, *_):
        self.client.close()
        self.process.terminate()
        self.process.wait(30)
        self.log.close()
        self.folder.cleanup()
