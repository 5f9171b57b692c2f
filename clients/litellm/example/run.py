"""A server with the module, LiteLLM's proxy, a provider, and some requests: all of it, with one command.

    python run.py --server redis-server --module libredis_gateway.so

The server, the provider and the proxy listen on free ports of this machine, and end with the program.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import redis

HERE = Path(__file__).parent


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    # LiteLLM takes its time on a busy machine.
    end = time.monotonic() + 300
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=5).status_code == 200:
                return
        time.sleep(0.2)
    sys.exit(f"{url} does not answer:\n{log.read_text(errors='replace')[-2000:]}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--server", default="redis-server", help="redis-server or valkey-server")
    arguments.add_argument("--module", required=True, help="libredis_gateway.so")
    given = arguments.parse_args()
    if shutil.which(given.server) is None:
        sys.exit(f"there is no {given.server}: name one with --server")
    if not os.path.exists(given.module):
        sys.exit(f"there is no {given.module}: cargo build --release makes it")
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def start(name: str, *command: str, **environment: str) -> tuple[subprocess.Popen[bytes], Path]:
            log = directory / f"{name}.log"
            with log.open("wb") as out:
                process = subprocess.Popen(
                    command, stdout=out, stderr=out, cwd=directory, env={**os.environ, **environment}
                )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return process, log

        port, provider, proxy = free_port(), free_port(), free_port()
        start("server", given.server, "--port", str(port), "--save", "", "--loadmodule", os.path.abspath(given.module))
        seen = start("provider", sys.executable, str(HERE / "provider.py"), "--port", str(provider))
        wait_for(f"http://127.0.0.1:{provider}/seen", *seen)
        seen = start(
            "proxy",
            str(Path(sys.executable).parent / "litellm"),
            *("--config", str(HERE / "config.yaml"), "--host", "127.0.0.1", "--port", str(proxy)),
            REDIS_URL=f"redis://127.0.0.1:{port}",
            PROVIDER_URL=f"http://127.0.0.1:{provider}/ok/v1",
            LITELLM_MASTER_KEY="sk-" + secrets.token_hex(16),
            LITELLM_LOCAL_MODEL_COST_MAP="True",
        )
        wait_for(f"http://127.0.0.1:{proxy}/health/liveliness", *seen)
        show(f"http://127.0.0.1:{proxy}", redis.Redis(port=port, decode_responses=True))


def show(proxy: str, server: redis.Redis) -> None:
    body = {"model": "small", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 20}
    for _ in range(4):
        answer = httpx.post(
            f"{proxy}/v1/chat/completions", json=body, headers={"Authorization": "Bearer sk-mine"}, timeout=60
        )
        left = answer.headers["x-ratelimit-remaining-requests"]
        print(answer.status_code, "requests left:", left)
    print(answer.json()["error"]["message"].rpartition(" Try again")[0])
    print("RateLimit-Policy:", answer.headers["RateLimit-Policy"])
    print("waits at most a minute:", 0 < int(answer.headers["Retry-After"]) <= 60)
    team = "{litellm}:team:research"
    end = time.monotonic() + 30
    while (spent := server.execute_command("GW.SPENT", team, "DAY")) != "0.15" and time.monotonic() < end:
        time.sleep(0.1)
    print("the team has spent", spent, "dollars today")


if __name__ == "__main__":
    main()
