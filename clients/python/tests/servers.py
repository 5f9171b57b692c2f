"""Private servers for the tests, on free ports of this machine, in directories that go with them."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis, RedisCluster
from redis.backoff import NoBackoff
from redis.retry import Retry

ROOT = Path(__file__).parents[3]


def module() -> Path:
    """The module's library, as tests/suite finds it: what GW_MODULE names, else the release build."""
    named = os.environ.get("GW_MODULE")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return Path(named) if named else target / "release" / "libredis_gateway.so"


def binary() -> str | None:
    """The server that GW_SERVER names, by the rules of scripts/lib.sh."""
    name = os.environ.get("GW_SERVER", "system")
    if "/" in name:
        return name
    found = shutil.which("redis-server") if name == "system" else None
    places = [found] if found else []
    places += [str(ROOT / ".servers" / name / program) for program in ("redis-server", "valkey-server")]
    return next((place for place in places if os.path.exists(place)), None)


def free_port() -> int:
    """Below the ports that the kernel gives to clients, and with room for a cluster's bus above it."""
    while True:
        port = random.randrange(20_001, 32_000)
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def eventually(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


class Server:
    """A process with the module. `stop` and `start` keep its port and its directory."""

    def __init__(self, *arguments: str, with_module: bool = True, sentinel: bool = False) -> None:
        self.port = free_port()
        self.tls_port = 0
        self.bus = 0
        if "--cluster-port" in arguments:
            self.bus = int(arguments[arguments.index("--cluster-port") + 1])
        self.directory = tempfile.mkdtemp(prefix="gw-clients-")
        self._arguments = list(arguments)
        self._with_module = with_module
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        program = binary()
        assert program is not None, "there is no such server: run scripts/servers.sh"
        loaded = ["--loadmodule", str(module())] if self._with_module else []
        words = [
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            self.directory,
            "--save",
            "",
            *self._arguments,
            *loaded,
        ]
        if self._sentinel:
            config = Path(self.directory, "sentinel.conf")
            config.write_text(f"port {self.port}\nbind 127.0.0.1\ndir {self.directory}\n")
            words = [str(config), "--sentinel"]
        with open(os.path.join(self.directory, "log"), "ab") as log:
            self._process = subprocess.Popen([program, *words], stdout=log, stderr=log)
        self.wait_ready()

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self._process is not None
            if self._process.poll() is not None:
                log = Path(self.directory, "log").read_text(errors="replace")
                raise AssertionError(f"the server has ended:\n{log[-2000:]}")
            try:
                with self.admin() as admin:
                    return bool(admin.ping())
            except Exception:
                return False

        eventually(ready)

    def admin(self, **options: object) -> Redis:
        """A client for the test itself, which waits as long as it takes."""
        options = {
            "decode_responses": True,
            "socket_timeout": 30,
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            **options,
        }
        return Redis(port=self.port, **options)  # type: ignore[arg-type]

    def run(self, command: str) -> object:
        with self.admin() as admin:
            return admin.execute_command(*command.split())

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The process does nothing meanwhile, but the kernel takes what is sent to it."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def cluster(nodes: int = 3) -> list[Server]:
    """Primaries that share the slots."""
    servers = [
        Server("--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--cluster-node-timeout", "20000")
        for _ in range(nodes)
    ]
    share = 16_384 // nodes
    for at, server in enumerate(servers):
        last = 16_383 if at == nodes - 1 else (at + 1) * share - 1
        server.run(f"CLUSTER ADDSLOTSRANGE {at * share} {last}")
        server.run(f"CLUSTER SET-CONFIG-EPOCH {at + 1}")
    for server in servers[1:]:
        server.run(f"CLUSTER MEET 127.0.0.1 {servers[0].port} {servers[0].bus}")
    for server in servers:
        eventually(lambda server=server: "cluster_state:ok" in str(server.run("CLUSTER INFO")))
        eventually(lambda server=server: str(server.run("CLUSTER SLOTS")).count("127.0.0.1") >= nodes)
    return servers


def cluster_client(servers: list[Server]) -> RedisCluster:
    return RedisCluster(host="127.0.0.1", port=servers[0].port)


class Proxy:
    """Passes connections on to `target`, which may change: those that are there stay."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listening.accept()
                there = socket.create_connection(("127.0.0.1", self.target))
                self._sockets += [here, there]
                for one, other in ((here, there), (there, here)):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        # shutdown ends the accept of the other thread, which close does not.
        for one in (self._listening, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def missing() -> str | None:
    """Why the tests cannot run here, if they cannot."""
    if binary() is None:
        return f"there is no server {os.environ.get('GW_SERVER', 'system')}"
    if not module().exists():
        return f"there is no module at {module()}: build it, or name it with GW_MODULE"
    return None


needs_server = pytest.mark.skipif(missing() is not None, reason=str(missing()))
