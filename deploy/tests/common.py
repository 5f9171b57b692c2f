"""What the tests of `deploy/` share."""

import pathlib
import shutil
import socket

ROOT = pathlib.Path(__file__).resolve().parents[2]
OBSERVE = ROOT / "deploy/observe"


def prometheus_program(name: str) -> str:
    """A program of Prometheus: the system's, or the one that scripts/deploy.sh has unpacked."""
    unpacked = ROOT / ".tools/prometheus/usr/bin" / name
    found = str(unpacked) if unpacked.exists() else shutil.which(name)
    assert found, f"there is no {name}: scripts/deploy.sh unpacks it"
    return found


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
