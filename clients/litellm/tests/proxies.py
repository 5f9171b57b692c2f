"""LiteLLM's real proxy and the provider, as processes of their own, with a server that has the module."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

import servers
from readme import blocks
from servers import Server, free_port

HERE = Path(__file__).resolve().parent
SOURCES = [str(HERE.parents[1] / name / "src") for name in ("litellm", "python")]
PRICES = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.002}
README_CONFIGURATION: dict[str, Any] = yaml.safe_load(blocks()["yaml"])
COST = "0.05"
"""Of an answer: 10 tokens of input and 20 of output."""
MASTER = "sk-master-6f0c29d5e7b1"
LONG = 60.0
"""Seconds in which all happens that happens, also on a machine with much else to do."""


def eventually(condition: Callable[[], object], seconds: float = LONG) -> None:
    servers.eventually(condition, seconds)


class Process:
    """A program that listens on a port, with its output in a file."""

    def __init__(self, name: str, command: list[str], directory: str, environment: dict[str, str]) -> None:
        self.log = Path(directory, f"{name}.log")
        with open(self.log, "ab") as out:
            self._process = subprocess.Popen(
                command, stdout=out, stderr=out, cwd=directory, env={**os.environ, **environment}
            )

    def wait_ready(self, url: str, seconds: float = 5 * LONG) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self._process.poll() is None, f"it has ended:\n{self.log.read_text(errors='replace')[-3000:]}"
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(url, timeout=5).status_code < 500:
                    return
            time.sleep(0.1)
        raise AssertionError(f"it is not ready:\n{self.log.read_text(errors='replace')[-3000:]}")

    @property
    def pid(self) -> int:
        return self._process.pid

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> None:
        self._process.wait(LONG)

    def close(self) -> None:
        """LiteLLM's proxy waits for its clients before it ends."""
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def model(name: str, behaviour: str, provider: int, kind: str = "openai", **more: Any) -> dict[str, Any]:
    base = f"http://127.0.0.1:{provider}/{behaviour}" + ("" if kind == "anthropic" else "/v1")
    params = {"model": f"{kind}/{name}-model", "api_base": base, "api_key": "none", **PRICES, **more}
    return {"model_name": name, "litellm_params": params}


def configuration(provider: int, redis_gateway: dict[str, Any], **more: Any) -> dict[str, Any]:
    names = ("ok", "silent", "fails", "busy", "refuses", "breaks", "waits", "waits-first")
    models = [model(name, name, provider) for name in names]
    models += [model("two", "ok", provider, rpm=2), model("two", "ok", provider, rpm=1)]
    models += [model("half", "fails", provider), model("half", "ok", provider)]
    models += [
        model("falls-back", "fails", provider),
        model("cut", "cuts", provider),
        model("spare", "ok", provider),
        model("embed", "ok", provider),
    ]
    models += [model(f"claude-{name}", name, provider, "anthropic") for name in ("ok", "breaks", "waits", "fails")]
    return {
        "model_list": models,
        "router_settings": {
            "num_retries": 1,
            "retry_after": 0,
            "disable_cooldowns": True,
            "fallbacks": [{"falls-back": ["spare"]}, {"cut": ["spare"]}, {"ok": ["spare"]}],
            **more.get("router_settings", {}),
        },
        "litellm_settings": {
            "callbacks": [*README_CONFIGURATION["litellm_settings"]["callbacks"], "plugin.refuses"],
            "redis_gateway": redis_gateway,
            **more.get("litellm_settings", {}),
        },
        "general_settings": {
            "master_key": "os.environ/LITELLM_MASTER_KEY",
            "custom_auth": "auth.settings_of_key",
            "pass_through_endpoints": [
                {"path": "/through", "target": f"http://127.0.0.1:{provider}/ok/v1/chat/completions", "auth": True}
            ],
            **more.get("general_settings", {}),
        },
        "files_settings": [
            {"custom_llm_provider": "openai", "api_base": f"http://127.0.0.1:{provider}/ok/v1", "api_key": "none"}
        ],
    }


class Stack:
    """A server or a cluster of three, a provider, and so many replicas of the proxy."""

    def __init__(self, replicas: int = 1, redis_gateway: dict[str, Any] | None = None, **more: Any) -> None:
        self.directory = tempfile.mkdtemp(prefix="gw-litellm-")
        self.nodes = servers.cluster() if more.get("cluster") else [Server()]
        self.server = self.nodes[0]
        self.keys: dict[str, dict[str, Any]] = {}
        self._keys_file = Path(self.directory, "keys.json")
        self._write_keys()
        for name in ("auth.py", "plugin.py"):
            shutil.copy(HERE / name, self.directory)
        provider_port = free_port()
        self.provider_url = f"http://127.0.0.1:{provider_port}"
        self._processes = [
            Process(
                "provider",
                [sys.executable, str(HERE.parent / "example" / "provider.py"), "--port", str(provider_port)],
                self.directory,
                {},
            )
        ]
        settings = {
            "url": f"redis://127.0.0.1:{self.server.port}/0",
            "cluster": len(self.nodes) > 1,
            **(redis_gateway or {}),
        }
        config = Path(self.directory, "config.yaml")
        config.write_text(yaml.safe_dump(configuration(provider_port, settings, **more)))
        environment = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MASTER_KEY": MASTER,
            "TEST_KEYS": str(self._keys_file),
            "PYTHONPATH": os.pathsep.join([self.directory, *SOURCES]),
            **more.get("environment", {}),
        }
        if more.get("litellm_settings", {}).get("cache_params", {}).get("type") == "redis":
            # LiteLLM's own use of the server.
            environment |= {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(self.server.port)}
            if len(self.nodes) > 1:
                nodes = [{"host": "127.0.0.1", "port": node.port} for node in self.nodes]
                environment["REDIS_CLUSTER_NODES"] = json.dumps(nodes)
        self.urls: list[str] = []
        self.proxies: list[Process] = []
        program = str(Path(sys.executable).parent / "litellm")
        for number in range(replicas):
            port = free_port()
            command = [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
            self.proxies.append(Process(f"proxy-{number}", command, self.directory, environment))
            self.urls.append(f"http://127.0.0.1:{port}")
        self._processes += self.proxies
        self.client = httpx.Client(base_url=self.urls[0], timeout=60)
        try:
            self._processes[0].wait_ready(f"{self.provider_url}/seen")
            for url, proxy in zip(self.urls, self.proxies, strict=True):
                proxy.wait_ready(f"{url}/health/liveliness")
        except BaseException:
            self.close()
            raise

    def _write_keys(self) -> None:
        written = self._keys_file.with_suffix(".new")
        written.write_text(json.dumps(self.keys))
        written.replace(self._keys_file)

    def key(self, name: str, **settings: Any) -> str:
        """An API key with LiteLLM's settings."""
        key = f"sk-test-{name}"
        self.keys[key] = settings
        self._write_keys()
        return key

    def post(self, path: str, key: str, body: dict[str, Any], **headers: str) -> httpx.Response:
        return self.client.post(path, json=body, headers={"Authorization": f"Bearer {key}", **headers})

    def chat(
        self, key: str, name: str = "ok", text: str = "Hi", *, stream: bool = False, **more: Any
    ) -> httpx.Response:
        return self.post("/v1/chat/completions", key, chat_body(name, text, stream=stream, **more))

    def seen(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.provider_url}/seen").json()
        return found

    def release(self) -> None:
        httpx.post(f"{self.provider_url}/release")

    def reset(self) -> None:
        self.release()
        eventually(lambda: self.seen()["running"] == 0)
        httpx.post(f"{self.provider_url}/reset")

    # What the server has.

    def accounts(self) -> dict[str, Account]:
        """By what they are of: `key`, `team`, `key-model`."""
        with self.server.admin() as admin:
            told = {name: admin.execute_command("GW.DESCRIBE", name) for name in sorted(admin.keys("{litellm}:*"))}
        # A charge that was kept makes a ledger, which is no account before a request comes.
        return {name.split(":")[1]: Account(reply) for name, reply in told.items() if reply[1] == "account"}

    def settled(self, kind: str = "key") -> Account:
        """An account, once nothing is held in any."""

        def nothing_held() -> bool:
            return all(account.in_flight == 0 for account in self.accounts().values())

        eventually(nothing_held)
        return self.accounts()[kind]

    def close(self) -> None:
        self.client.close()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.close()
        for node in self.nodes:
            node.close()
        shutil.rmtree(self.directory, ignore_errors=True)


class Account:
    """What GW.DESCRIBE says of an account."""

    def __init__(self, reply: list[Any]) -> None:
        told = pairs(reply)
        self.in_flight = int(told["in_flight"])
        self.counts = {
            name: int(count) if str(count).isdigit() else str(count) for name, count in pairs(told["counts"]).items()
        }
        usd = pairs(pairs(told["ledgers"]).get("usd", []))
        self.spent = str(usd.get("total", "0"))
        self.held = str(usd.get("held", "0"))
        self.policies = {str(words[0]): " ".join(map(str, words[1:])) for words in told["policies"]}


def pairs(reply: list[Any]) -> dict[str, Any]:
    return dict(zip(reply[::2], reply[1::2], strict=True))


def chat_body(name: str = "ok", text: str = "Hi", **more: Any) -> dict[str, Any]:
    return {"model": name, "messages": [{"role": "user", "content": text}], **more}
