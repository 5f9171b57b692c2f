"""What can be set: in LiteLLM's config.yaml under `litellm_settings.redis_gateway`, or in the environment.

`timeout` there is `REDIS_GATEWAY_TIMEOUT` here. The file wins.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from redis_gateway import Away, Kept
from redis_gateway import Settings as ClientSettings

__all__ = ["PluginSettings", "read_settings"]

AwayMode = Literal["closed", "open", "local"]
OwnLimiter = Literal["replace", "keep"]
Pick = Literal["", "FIRST", "ROOM", "FAST"]
CONNECT_S = 0.001
# As many requests may ask at the same moment. More of them wait for a connection, and take the server for away if that
# takes `timeout`. A connection is made when it is needed.
CONNECTIONS = 200


@dataclass(frozen=True)
class PluginSettings:
    url: str = ""
    """The server, as `redis://[user:password@]host:port/db`, or `rediss://` for TLS. Empty: LiteLLM's own `REDIS_URL`,
    or `REDIS_HOST`, `REDIS_PORT`, `REDIS_USERNAME`, `REDIS_PASSWORD` and `REDIS_SSL`."""
    cluster: bool = False
    """`url` is a node of a cluster."""
    prefix: str = "litellm"
    """The hash tag of all keys: a request's accounts are in one slot. Letters, digits, `-`, `_`, `.` and `:`."""
    timeout: float = 0.15
    """Seconds. The longest wait of a request for a server that does not answer. LiteLLM's event loop is busy for tens
    of milliseconds at a time, so that a much shorter one tells of the proxy, and not of the server."""
    away: AwayMode = "local"
    """While the server is away: each process keeps its share of the limits of requests, tokens and requests at a time
    by itself; or all requests are refused with 503 (`closed`); or all pass (`open`)."""
    local_rpm: int = 60
    """With `away: local`: requests in a minute, over all instances together, of an account that has a budget and no
    limit of requests."""
    instances: int = 1
    """How many proxy processes there are. Each has its share with `away: local`."""
    kept_directory: str = ""
    """Settlements that the server has not taken survive a restart in this directory. Empty: they are kept in memory."""
    output_tokens: int = 1_000
    """The estimate of an answer's tokens if the request does not bound them. It is held until the answer has come."""
    own_limiter: OwnLimiter = "replace"
    """LiteLLM's own limiter of requests, tokens and parallel requests: `replace` takes it out, `keep` leaves it on."""
    present_spend: bool = True
    """An account that is made begins with what LiteLLM says has been spent in this period."""
    cache: bool = False
    """LiteLLM's response cache is kept by the module, with one call of the provider for all who ask for the same."""
    cache_ttl: int = 3_600
    """Seconds. How long an answer is cached if neither the request nor LiteLLM's `cache_params.ttl` says."""
    cache_lease: float = 120.0
    """Seconds. Longer than a provider takes to answer: then another request asks it."""
    cache_wait: float = 60.0
    """Seconds. The longest wait for an answer that another request has asked for."""
    log_queue: str = ""
    """The key of a log queue that gets a record of each request. Empty: none."""
    routing: Pick = ""
    """Which deployment of a model serves a request: the first in config.yaml that has room, the one with the most room,
    or the fastest. Empty: LiteLLM's own `routing_strategy`."""
    allowed_failures: int = 3
    """With `routing`: so many failures within a minute take a deployment out for `cooldown` seconds. 0: none do."""
    cooldown: float = 5.0
    """Seconds."""
    unreported_after: float = 10.0
    """Seconds. If LiteLLM does not report a request's use within this time after its end, it is settled at what is
    known."""

    def __post_init__(self) -> None:
        for name, kind in (("away", AwayMode), ("own_limiter", OwnLimiter), ("routing", Pick)):
            allowed = get_args(kind)
            if getattr(self, name) not in allowed:
                raise ValueError(f"redis_gateway.{name}: one of {', '.join(one for one in allowed if one)}")
        if not self.prefix or not all(letter.isalnum() or letter in "-_.:" for letter in self.prefix):
            raise ValueError("redis_gateway.prefix: letters, digits, -, _, . and :")
        if min(self.output_tokens, self.local_rpm, self.unreported_after) < 0:
            raise ValueError("redis_gateway: output_tokens, local_rpm and unreported_after are from 0")
        if not 0 < self.cache_lease <= 3_600 or self.cache_wait < 0 or self.cache_ttl < 1:
            raise ValueError("redis_gateway: cache_lease is up to 3600, cache_wait from 0, and cache_ttl from 1")

    def for_client(self) -> ClientSettings:
        return ClientSettings(
            timeout=self.timeout,
            # A new connection may take both together, and a request waits for `timeout` at most.
            connect_timeout=CONNECT_S,
            connections=CONNECTIONS,
            instances=self.instances,
            # A long answer is not cut off: an admission is kept alive as long as its request runs.
            lease_cap=6 * 3_600.0,
            # What `local` lets pass is decided by LocalLimits.
            away=Away(admission="closed" if self.away == "closed" else "open"),
            kept=Kept(directory=self.kept_directory or None),
        )


def read_settings(configured: object, environment: Mapping[str, str] | None = None) -> PluginSettings:
    """From `litellm_settings.redis_gateway`, and the environment for what is not set there. Raises ValueError for what
    is misspelt or not allowed."""
    environment = os.environ if environment is None else environment
    if configured is not None and not isinstance(configured, Mapping):
        raise ValueError("litellm_settings.redis_gateway: names and values")
    given: dict[str, Any] = dict(configured or {})
    known = {field.name: field for field in fields(PluginSettings)}
    for name in given:
        if name not in known:
            raise ValueError(f"redis_gateway.{name}: not a setting; there are {', '.join(known)}")
    for name in known:
        variable = environment.get(f"REDIS_GATEWAY_{name.upper()}")
        if variable is not None:
            given.setdefault(name, variable)
    typed = {name: typed_as(known[name].default, name, value, environment) for name, value in given.items()}
    return PluginSettings(
        **{"url": url_of(environment), **{name: value for name, value in typed.items() if value != ""}}
    )


def typed_as(default: object, name: str, value: object, environment: Mapping[str, str]) -> Any:
    if isinstance(value, str) and value.startswith("os.environ/"):
        value = environment.get(value.removeprefix("os.environ/"), "")
    try:
        if isinstance(default, bool):
            return value if isinstance(value, bool) else {"true": True, "false": False}[str(value).lower()]
        return type(default)(value)  # type: ignore[call-arg]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"redis_gateway.{name}: not of the right kind: {value!r}") from None


def url_of(environment: Mapping[str, str]) -> str:
    """The server that LiteLLM itself is set up with."""
    if environment.get("REDIS_URL"):
        return environment["REDIS_URL"]
    scheme = "rediss" if environment.get("REDIS_SSL", "").lower() == "true" else "redis"
    return f"{scheme}://{environment.get('REDIS_HOST', 'localhost')}:{environment.get('REDIS_PORT', '6379')}"


def credentials_of(environment: Mapping[str, str], url: str) -> dict[str, str]:
    """LiteLLM's, if the address has none of its own."""
    names = {"username": "REDIS_USERNAME", "password": "REDIS_PASSWORD"}
    if "@" in url:
        return {}
    return {name: environment[variable] for name, variable in names.items() if environment.get(variable)}
