# Generated from ../_async/transport.py by tools/unasync.py. Do not edit.
"""Sends commands to the server, or to the node of a cluster that has their keys, within the time-outs."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import redis.exceptions as redis_errors
from redis.crc import key_slot

from .._commands import COMMANDS, Request
from .._errors import GatewayError
from ..circuit import Circuit
from ..failures import Unavailable, code_of, not_now, typed, unavailable
from ..settings import Settings
from ..telemetry import Telemetry
from . import _runtime as runtime
from .connections import Server, server_at, server_of

__all__ = ["Transport"]

T = TypeVar("T")

REDIRECTIONS = 5
# How long a cluster's map may be wrong for: it is asked for anew after a redirection or a failure, but not more often.
REFRESH_S = 0.5
# For how long nothing is asked of a node that has left before its connections are closed.
LEFT_S = 60.0

# What redis-py raises if the server refuses the first commands on a connection.
LOGIN_REFUSED = (redis_errors.AuthenticationError, redis_errors.AuthorizationError, redis_errors.ResponseError)


def key_of(words: Sequence[str | bytes | int]) -> bytes | None:
    name, *words = words
    told = COMMANDS.get(str(name))
    return bytes_of(words[0]) if words and (told is None or told.keyed) else None


def encoded(words: Sequence[str | bytes | int]) -> list[bytes]:
    return [bytes_of(word) for word in words]


def bytes_of(word: str | bytes | int) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogateescape")


class Transport:
    def __init__(self, client: Any, settings: Settings, tasks: runtime.Tasks, telemetry: Telemetry) -> None:
        self.settings = settings
        self._telemetry = telemetry
        self._tasks = tasks
        self._client = client
        self.cluster = isinstance(client, runtime.RedisCluster)
        self._alone: Server | None = None if self.cluster else server_of(client, settings)
        # Of a cluster: its nodes by address, and each slot's node.
        self._servers: dict[tuple[str, int], Server] = {}
        self._slots: dict[int, tuple[str, int]] = {}
        self._seeds: list[tuple[str, int]] = []
        self._class: Any = None
        self._kwargs: dict[str, Any] = {}
        self._asked_at = 0.0
        self._mutex = runtime.Mutex()
        self._refreshing = False
        self._refreshed = runtime.Event()
        self._silent = False
        # Opens if no node tells which node has which slots while that is not known.
        self._map = Circuit("the cluster", settings.failures, settings.pause)
        self._prune_at = float("inf")

    def servers(self) -> list[Server]:
        return [self._alone] if self._alone is not None else list(self._servers.values())

    def place_of(self, key: str | bytes) -> int:
        """Keys with the same place can be named in one call."""
        return key_slot(bytes_of(key)) if self.cluster else 0

    def node_of(self, words: Sequence[str | bytes | int]) -> object:
        """What tells the node that such a call is sent to from the others of a cluster; None without a cluster, or if
        its nodes are not known."""
        if self._alone is not None or not self._slots:
            return None
        return self._address(key_of(words))

    def call(self, request: Request[T]) -> T:
        """The reply. Raises Unavailable, or the error that the server replied."""
        reply = (self.many([request]))[0]
        if isinstance(reply, Exception):
            raise reply
        return request.decode(reply)

    def many(self, requests: Sequence[Request[Any]]) -> list[Any]:
        """The replies as they came, of which each may be an error; in one round trip to each node."""
        if self._alone is not None:
            return (self._ask(self._alone, requests))[0]
        try:
            self._know_nodes()
        except Unavailable as error:
            return [error] * len(requests)
        groups: dict[tuple[str, int], list[int]] = {}
        for at, request in enumerate(requests):
            groups.setdefault(self._address(key_of(request.args)), []).append(at)
        replies: list[Any] = [None] * len(requests)
        for address, places in groups.items():
            answers, sent = self._ask(self._server(address), [requests[at] for at in places])
            for at, answer in zip(places, answers, strict=True):
                failed = isinstance(answer, Exception)
                replies[at] = self._followed(requests[at], answer, sent) if failed else answer
        return replies

    def wait(self, request: Request[T]) -> T:
        """The reply of a call that waits inside the server, for less than `Settings.waiting_timeout`."""
        if self._alone is not None:
            reply = (self._ask(self._alone, [request], waiting=True))[0][0]
        else:
            self._know_nodes()
            server = self._server(self._address(key_of(request.args)))
            replies, sent = self._ask(server, [request], waiting=True)
            reply = replies[0]
            if isinstance(reply, Exception):
                reply = self._followed(request, reply, sent, waiting=True)
        if isinstance(reply, Exception):
            raise reply
        return request.decode(reply)

    def everywhere(self, request: Request[T]) -> list[T]:
        """The replies of all primaries, for commands that name no key."""
        if self._alone is not None:
            return [self.call(request)]
        self._know_nodes()
        found: list[T] = []
        for address in dict.fromkeys(self._slots.values()):
            reply = (self._ask(self._server(address), [request]))[0][0]
            if isinstance(reply, Exception):
                raise reply
            found.append(request.decode(reply))
        return found

    def _ask(
        self, server: Server, requests: Sequence[Request[Any]], *, waiting: bool = False, asking: bool = False
    ) -> tuple[list[Any], bool]:
        """The replies, and whether an earlier try, which had no reply, may have arrived."""
        commands = [encoded(request.args) for request in requests]
        if asking:
            commands.insert(0, [b"ASKING"])
        tries = 2 if all(request.repeatable for request in requests) else 1
        end = time.monotonic() + self.settings.timeout
        sent = False
        while True:
            tries -= 1
            try:
                if self._telemetry.traces:
                    operation = str(requests[0].args[0]) if len(requests) == 1 else "PIPELINE"
                    with self._telemetry.call(operation, server.address):
                        replies = server.ask(commands, waiting=waiting)
                else:
                    replies = server.ask(commands, waiting=waiting)
                break
            except LOGIN_REFUSED as error:
                # The server refuses the connection itself.
                return [self._after(typed(error), sent)] * len(requests), sent
            except Unavailable as error:
                sent = sent or error.sent
                # An idle connection that the server had closed: a new one may well do, if there is time for it.
                if tries == 0 or error.reason != "connection" or time.monotonic() >= end:
                    self._refresh_later()
                    return [self._after(error, sent)] * len(requests), sent
        if asking:
            del replies[0]
        for at, reply in enumerate(replies):
            if isinstance(reply, Exception):
                replies[at] = self._after(self._error(reply), sent)
        return replies, sent

    def _after(self, error: Exception, sent: bool) -> Exception:
        """What an error means if an earlier try may have arrived: this try's refusal says nothing about that one."""
        if not sent or not not_now(error):
            return error
        if isinstance(error, Unavailable):
            return error if error.sent else Unavailable(error.reason, sent=True, down=error.down)
        return Unavailable(error.code.lower() if isinstance(error, GatewayError) else "refused", sent=True, down=False)

    def _error(self, error: Exception) -> Exception:
        """Redirections are for the cluster's part of this class, the rest is away or the caller's."""
        if self.cluster and code_of(error) in ("MOVED", "ASK", "TRYAGAIN"):
            return error
        return unavailable(error, connected=True) or typed(error)

    # A cluster's nodes.

    def _followed(self, request: Request[Any], error: Exception, sent: bool, *, waiting: bool = False) -> Any:
        """The reply from where the cluster says that the key is. `sent`: whether an earlier try may have arrived."""
        end = time.monotonic() + self.settings.timeout
        for _ in range(REDIRECTIONS):
            code = code_of(error)
            if isinstance(error, Unavailable) or code not in ("MOVED", "ASK", "TRYAGAIN"):
                return self._after(error, sent)
            if code == "TRYAGAIN":
                runtime.sleep(0.005)
                address = self._address(key_of(request.args))
            else:
                slot, _, place = str(error).removeprefix(code).strip().partition(" ")
                host, _, port = place.rpartition(":")
                address = self._remapped(host or self._address(key_of(request.args))[0], int(port))
                if code == "MOVED":
                    self._slots[int(slot)] = address
                    self._refresh_later()
            replies, arrived = self._ask(self._server(address), [request], waiting=waiting, asking=code == "ASK")
            sent = sent or arrived
            if not isinstance(replies[0], Exception):
                return replies[0]
            error = replies[0]
            if time.monotonic() >= end and not waiting:
                break
        return self._after(unavailable(error, connected=True) or typed(error), sent)

    def _address(self, key: bytes | None) -> tuple[str, int]:
        if key is None:
            return random.choice(list(self._slots.values()) or self._seeds)
        return self._slots.get(key_slot(key)) or self._seeds[0]

    def _server(self, address: tuple[str, int]) -> Server:
        server = self._servers.get(address)
        if server is None:
            kwargs = {**self._kwargs, "host": address[0], "port": address[1]}
            server = server_at(f"{address[0]}:{address[1]}", self._class, kwargs, self.settings)
            self._servers[address] = server
        return server

    def _remapped(self, host: str, port: int) -> tuple[str, int]:
        remap = getattr(self._client.nodes_manager, "remap_host_port", None)
        return remap(host, port) if remap else (host, port)

    def _know_nodes(self) -> None:
        """Raises Unavailable if no node has told in time which node has which slots. Nodes are asked once for all who
        wait for that."""
        if time.monotonic() >= self._prune_at:
            self._prune_at = float("inf")
            self._tasks.start(self._prune)
        if self._slots:
            return
        if not self._seeds:
            self._class, self._kwargs, self._seeds = runtime.cluster_nodes(self._client)
        if self._map.is_open if self._refreshing else not self._map.may_ask():
            raise Unavailable("circuit_open", sent=False)
        if self._begin_refresh():
            try:
                self._tasks.start(self._refresh)
            except RuntimeError:
                self._refresh()  # The program ends: no thread can be started any more.
        if not self._refreshed.wait(self.settings.connect_timeout + self.settings.timeout):
            raise Unavailable("timeout", sent=False)
        if self._silent:
            raise Unavailable("connection", sent=False)

    def _refresh_later(self) -> None:
        if self.cluster and time.monotonic() - self._asked_at > REFRESH_S and self._begin_refresh():
            try:
                self._tasks.start(self._refresh)
            except RuntimeError:
                self._refreshing = False

    def _begin_refresh(self) -> bool:
        """Whether the caller is the one who has to refresh the map."""
        with self._mutex:
            if self._refreshing:
                return False
            self._refreshing = True
            self._refreshed.clear()
            return True

    def _refresh(self) -> None:
        self._asked_at = time.monotonic()
        self._silent = True
        try:
            self._silent = not self._ask_for_slots()
        finally:
            if not self._silent:
                self._map.succeeded()
            elif not self._slots:
                self._map.failed("connection")
            if set(self._servers) - set(self._slots.values()):
                self._prune_at = min(self._prune_at, time.monotonic() + LEFT_S)
            self._refreshing = False
            self._refreshed.set()

    def _ask_for_slots(self) -> bool:
        """Asks one node after another which node has which slots, until one tells. Whether any of them answers."""
        known = list(dict.fromkeys([*self._slots.values(), *self._seeds]))
        random.shuffle(known)
        refusing: list[tuple[str, int]] = []
        for address in known:
            try:
                reply = (self._server(address).ask([[b"CLUSTER", b"SLOTS"]]))[0]
            except LOGIN_REFUSED as error:
                reply = error
            except Unavailable:
                continue
            if isinstance(reply, Exception):
                if unavailable(reply, connected=True) is None:
                    refusing.append(address)
            elif reply:
                self._slots = self._slots_of(reply, address)
                return True
        # A node that answers, but does not tell, is asked first: it says what is wrong, or where a key is.
        self._seeds = list(dict.fromkeys([*refusing, *self._seeds]))
        return bool(refusing)

    def _prune(self) -> None:
        """Closes the connections to nodes that have left, once nothing was asked of them for longer than any call
        takes."""
        used_since = time.monotonic() - max(LEFT_S, 2 * self.settings.waiting_timeout)
        for address in set(self._servers) - set(self._slots.values()):
            if self._servers[address].used_at < used_since:
                self._servers.pop(address).close()
            else:
                self._prune_at = time.monotonic() + LEFT_S

    def _slots_of(self, reply: list[Any], asked: tuple[str, int]) -> dict[int, tuple[str, int]]:
        slots: dict[int, tuple[str, int]] = {}
        for first, last, primary, *_ in reply:
            # A node that does not know its own address sends none.
            host = primary[0].decode() if primary[0] else asked[0]
            address = self._remapped(host if host != "?" else asked[0], int(primary[1]))
            slots.update(dict.fromkeys(range(first, last + 1), address))
        return slots

    def close(self) -> None:
        for server in self.servers():
            server.close()
