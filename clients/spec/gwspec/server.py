"""A private server with the module, for as long as it is needed. It listens on a socket file alone."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from .paths import ROOT
from .resp import Connection, ErrorReply, parse


def module_path() -> Path:
    """`GW_MODULE`, or the release build in the target directory, as the Rust tests find it."""
    named = os.environ.get("GW_MODULE")
    target = os.environ.get("CARGO_TARGET_DIR") or "target"
    path = Path(named) if named else ROOT / target / "release/libredis_gateway.so"
    if not path.exists():
        raise FileNotFoundError(f"no module at {path}: build it with `cargo build --release`")
    return path.resolve()


def server_path() -> str:
    """The server that `GW_SERVER` names: a path, a folder of .servers/, or `system`, as scripts/lib.sh finds it."""
    name = os.environ.get("GW_SERVER", "system")
    if "/" in name:
        return name
    candidates = [ROOT / ".servers" / name / program for program in ("redis-server", "valkey-server")]
    if name == "system":
        found = shutil.which("redis-server") or shutil.which("valkey-server")
        if found:
            return found
    for path in candidates:
        if path.exists():
            return str(path)
    raise FileNotFoundError(f"there is no server {name}: run scripts/servers.sh")


class Server:
    """Started by `with`, and ended with it."""

    def __init__(self, *config: str) -> None:
        server, module = server_path(), module_path()
        self.directory = Path(tempfile.mkdtemp(prefix="gw-spec-"))
        self.socket = str(self.directory / "socket")
        log = self.directory / "log"
        command = [server, "--port", "0", "--unixsocket", self.socket, "--dir", str(self.directory)]
        command += ["--save", "", "--appendonly", "no", "--logfile", str(log), *config]
        command += ["--loadmodule", str(module)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self.wait(log)
        except BaseException:
            self.stop()
            raise

    def wait(self, log: Path) -> None:
        """Until it answers."""
        deadline = time.monotonic() + 20
        while True:
            try:
                with self.connect() as connection:
                    # Any reply will do: some servers are set up to refuse.
                    reply, _ = parse(connection.raw([b"PING"]))
                    if isinstance(reply, ErrorReply) and reply.text.startswith("LOADING"):
                        raise ConnectionError(reply.text)
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    text = log.read_text() if log.exists() else "(no log)"
                    raise RuntimeError(f"the server has not started:\n{text}") from None
                time.sleep(0.02)

    def connect(self, protocol: int = 2) -> Connection:
        return Connection(self.socket, protocol)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
