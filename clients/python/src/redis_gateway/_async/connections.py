"""Connections of the gateway's own, with the settings of the application's client but other time-outs and no retries.

In redis-py time-outs and retries belong to a connection, and its defaults (seconds, and up to ten retries of whatever
was sent) would count a charge twice and keep a request waiting. So the gateway takes address, credentials, TLS,
protocol and database from the client that it is given, and leaves that client and its pool alone.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from typing import Any

import redis.exceptions as redis_errors
from redis.backoff import NoBackoff

from ..circuit import Circuit
from ..failures import Unavailable, demoted, unavailable
from ..settings import Settings
from ..testing import FakeRedis
from . import _runtime as runtime

__all__ = ["AsyncServer", "derived_kwargs", "sentinel_pool", "server_of"]

# Settings of the application's client that are replaced, or that belong to its own pool.
LEFT_OUT = {
    "connection_pool",
    "event_dispatcher",
    "himport_registry",
    "maint_notifications_config",
    "maint_notifications_pool_handler",
    "oss_cluster_maint_notifications_handler",
    "orig_host_address",
    "orig_socket_connect_timeout",
    "orig_socket_timeout",
    "redis_connect_func",
    "response_callbacks",
    "retry_on_error",
    "retry_on_timeout",
}


def derived_kwargs(kwargs: dict[str, Any], settings: Settings, read_timeout: float) -> dict[str, Any]:
    kept = {name: value for name, value in kwargs.items() if name not in LEFT_OUT}
    kept.update(
        socket_timeout=runtime.socket_timeout(read_timeout),
        socket_connect_timeout=runtime.socket_timeout(settings.connect_timeout),
        retry=runtime.Retry(NoBackoff(), 0),
        decode_responses=False,
        encoding="utf-8",
        encoding_errors="strict",
        health_check_interval=0,
    )
    return kept


def pool_kwargs() -> dict[str, Any]:
    """Settings of the pool itself. The maintenance notices of redis-py 7 and later change the time-outs of
    connections."""
    try:
        from redis.maint_notifications import MaintNotificationsConfig
    except ImportError:
        return {}
    # The asynchronous pool of redis-py 7.0 does not know them yet.
    kinds = [kind for kind in runtime.ConnectionPool.__mro__ if "__init__" in vars(kind)]
    if not any("maint_notifications_config" in inspect.signature(vars(kind)["__init__"]).parameters for kind in kinds):
        return {}
    return {"maint_notifications_config": MaintNotificationsConfig(enabled=False)}


class AsyncSentinels:
    """Sentinels, in the place of redis-py's, which asks them one after another. Here all are asked at once, so that one
    that does not answer holds up nobody, and after that the one that has answered."""

    def __init__(self, each: list[Any]) -> None:
        self._each = each
        """A redis-py Sentinel for each of them."""
        self._last: Any = None

    async def discover_master(self, service_name: str) -> Any:
        return await self._discover("discover_master", service_name)

    async def discover_slaves(self, service_name: str) -> Any:
        return await self._discover("discover_slaves", service_name)

    async def _discover(self, method: str, service_name: str) -> Any:
        # Also if this is broken off, all are asked the next time.
        last, self._last = self._last, None
        if last is not None:
            try:
                found = await getattr(last, method)(service_name)
            except (redis_errors.RedisError, OSError):
                pass
            else:
                self._last = last
                return found
        place, found = await runtime.first_of([getattr(one, method) for one in self._each], service_name)
        self._last = self._each[place]
        return found


def sentinels_of(manager: Any, settings: Settings) -> AsyncSentinels:
    """The same sentinels as the application's client has, but they are waited for no longer than the server is."""
    addresses = [
        (sentinel.connection_pool.connection_kwargs["host"], sentinel.connection_pool.connection_kwargs["port"])
        for sentinel in manager.sentinels
    ]
    asking = {name: value for name, value in manager.sentinel_kwargs.items() if name not in LEFT_OUT}
    asking.update(
        socket_timeout=max(settings.timeout, settings.connect_timeout),
        socket_connect_timeout=settings.connect_timeout,
        retry=runtime.Retry(NoBackoff(), 0),
    )
    make: Any = runtime.Sentinel  # redis-py does not type it
    return AsyncSentinels(
        [make([address], manager.min_other_sentinels, sentinel_kwargs=asking) for address in addresses]
    )


def sentinel_pool(
    pool: Any, sentinels: AsyncSentinels, settings: Settings, read_timeout: float, connections: int
) -> Any:
    return type(pool)(
        pool.service_name,
        sentinels,
        is_master=pool.is_master,
        check_connection=pool.check_connection,
        connection_class=pool.connection_class,
        max_connections=connections,
        **derived_kwargs(pool.connection_kwargs, settings, read_timeout),
    )


class AsyncServer:
    """One server: two small pools of connections, one for calls that are answered at once and one for those that
    wait."""

    def __init__(self, name: str, address: str, pool: Any, waiting: Any, settings: Settings) -> None:
        self.name = name
        self.address = address
        self.circuit = Circuit(name, settings.failures, settings.pause)
        self.used_at = time.monotonic()
        self._tried: runtime.Event | None = None
        """Set when the call that tries has ended."""
        self._settings = settings
        self._pool = pool
        self._waiting = waiting
        self._places = runtime.Places(settings.connections)
        self._waiting_places = runtime.Places(settings.waiting_connections)
        # redis-py 5 wants the command's name, later versions warn about it.
        parameter = inspect.signature(pool.get_connection).parameters.get("command_name")
        self._names = ("GW",) if parameter is not None and parameter.default is inspect.Parameter.empty else ()

    async def ask(self, commands: Sequence[Sequence[Any]], *, waiting: bool = False) -> list[Any]:
        """The replies, of which each may be an error. Raises Unavailable if there are none."""
        was_open = self.circuit.is_open
        if not self.circuit.may_ask() and not await self._back():
            raise Unavailable("circuit_open", sent=False)
        if was_open and self.circuit.is_open:
            return await self._try(commands, waiting)
        return await self._ask(commands, waiting)

    async def _try(self, commands: Sequence[Sequence[Any]], waiting: bool) -> list[Any]:
        """The one call that finds out whether the server is back."""
        tried = self._tried = runtime.Event()
        try:
            return await self._ask(commands, waiting)
        finally:
            tried.set()

    async def _back(self) -> bool:
        """Whether the call that tries just now, if there is one, has an answer soon. Whoever is let through without the
        server meanwhile, or refused, would be so for nothing: the server may be back."""
        tried = self._tried
        if tried is None or tried.is_set():
            return False
        await tried.wait(self._settings.timeout)
        return not self.circuit.is_open

    async def _ask(self, commands: Sequence[Sequence[Any]], waiting: bool) -> list[Any]:
        self.used_at = time.monotonic()
        settings = self._settings
        places = self._waiting_places if waiting else self._places
        if not await places.take(settings.timeout):
            raise Unavailable("connections", sent=False, down=False)
        try:
            limit = settings.waiting_timeout if waiting else settings.timeout
            replies = await self._exchange(self._waiting if waiting else self._pool, commands, limit)
        except BaseException as error:
            if isinstance(error, Unavailable):
                self.circuit.failed(error.reason)
            raise
        finally:
            places.free()
        # One reply speaks for the server: they came together.
        refused = unavailable(replies[-1], connected=True) if isinstance(replies[-1], Exception) else None
        if refused is not None and refused.down:
            self.circuit.failed(refused.reason)
        else:
            self.circuit.succeeded()
        return replies

    async def _exchange(self, pool: Any, commands: Sequence[Sequence[Any]], limit: float) -> list[Any]:
        connection = None
        connected = False
        try:
            connection = await runtime.bounded(self._settings.connect_timeout + limit, self._connection, pool)
            packed = connection.pack_commands(commands) if len(commands) > 1 else connection.pack_command(*commands[0])
            connected = True
            replies = await runtime.bounded(limit, self._send_and_read, connection, packed, len(commands))
            if any(demoted(reply) for reply in replies):
                await self._leave(connection)
            return replies
        except BaseException as error:
            if connection is not None:
                await runtime.drop(connection)
            away = unavailable(error, connected=connected)
            if away is not None:
                raise away from error
            raise
        finally:
            if connection is not None:
                await pool.release(connection)

    async def _leave(self, connection: Any) -> None:
        """The address may lead to another node by now, behind a proxy or a name: only new connections get there."""
        await runtime.drop(connection)
        for pool in (self._pool, self._waiting):
            await pool.disconnect(inuse_connections=False)

    async def _connection(self, pool: Any) -> Any:
        connection = await pool.get_connection(*self._names)
        try:
            if runtime.is_closed(connection):
                await runtime.drop(connection)
                await connection.connect()
        except BaseException:
            await pool.release(connection)
            raise
        return connection

    async def _send_and_read(self, connection: Any, packed: Any, count: int) -> list[Any]:
        await connection.send_packed_command(packed)
        replies: list[Any] = []
        for _ in range(count):
            try:
                replies.append(await connection.read_response())
            except redis_errors.ResponseError as error:
                replies.append(error)
            except redis_errors.BusyLoadingError as error:
                # redis-py counts it among the lost connections, and may have closed this one.
                if count > 1:
                    raise Unavailable("loading", sent=False) from error
                replies.append(error)
        return replies

    async def aclose(self) -> None:
        for pool in (self._pool, self._waiting):
            await pool.disconnect()


class AsyncFakeServer(AsyncServer):
    """The fake of redis_gateway.testing, as a server."""

    def __init__(self, fake: FakeRedis, settings: Settings) -> None:
        self.name = "the fake"
        self.address = "fake"
        self.circuit = Circuit(self.name, settings.failures, settings.pause)
        self._fake = fake

    async def ask(self, commands: Sequence[Sequence[Any]], *, waiting: bool = False) -> list[Any]:
        if waiting:
            # It waits for nobody, and whoever asks again does so after a moment.
            await runtime.sleep(0.01)
        return self._fake.replies(commands)

    async def aclose(self) -> None:
        return None


def server_of(client: Any, settings: Settings) -> AsyncServer:
    """The server that a client talks to, which may be the primary that its sentinels name."""
    if isinstance(client, FakeRedis):
        return AsyncFakeServer(client, settings)
    pool = client.connection_pool
    if isinstance(pool, runtime.SentinelConnectionPool):
        named: Any = pool  # redis-py does not type it
        sentinels = sentinels_of(named.sentinel_manager, settings)
        return AsyncServer(
            f"the primary {named.service_name}",
            "",
            sentinel_pool(pool, sentinels, settings, settings.timeout, settings.connections),
            sentinel_pool(pool, sentinels, settings, settings.waiting_timeout, settings.waiting_connections),
            settings,
        )
    kwargs = pool.connection_kwargs
    name = kwargs.get("path") or f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
    return server_at(name, pool.connection_class, kwargs, settings)


def server_at(name: str, connection_class: Any, kwargs: dict[str, Any], settings: Settings) -> AsyncServer:
    pools = [
        runtime.ConnectionPool(
            connection_class=connection_class,
            max_connections=connections,
            **pool_kwargs(),
            **derived_kwargs(kwargs, settings, read_timeout),
        )
        for read_timeout, connections in (
            (settings.timeout, settings.connections),
            (settings.waiting_timeout, settings.waiting_connections),
        )
    ]
    return AsyncServer(f"the server {name}", name, pools[0], pools[1], settings)
