"""What differs between the asynchronous and the synchronous half: tasks, locks, waiting. Its twin is
../_sync/_runtime.py."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool

__all__ = [
    "ConnectionPool",
    "Event",
    "Mutex",
    "Places",
    "Redis",
    "RedisCluster",
    "Retry",
    "Sentinel",
    "SentinelConnectionPool",
    "Tasks",
    "aclosing",
    "at_exit",
    "bounded",
    "closing_source",
    "cluster_nodes",
    "drop",
    "first_of",
    "is_closed",
    "sleep",
    "socket_timeout",
]

T = TypeVar("T")
aclosing = contextlib.aclosing
sleep = asyncio.sleep

Work = Callable[..., Coroutine[Any, Any, T]]


PARTS = 32
HELD_UP_S = 0.025
"""Whoever holds up an event loop for longer does something else meanwhile. Shorter turns are its usual work."""


def socket_timeout(seconds: float) -> float:
    """For redis-py, whose time-outs know nothing of a busy event loop: `bounded` is the bound, and they are longer."""
    return max(10 * seconds, 5.0)


if sys.version_info >= (3, 11):

    async def bounded(seconds: float, work: Work[T], *args: Any) -> T:
        """Runs it, and raises TimeoutError if that takes longer.

        The time is measured in parts, each of which ends after what has arrived was read. So if something else holds up
        the event loop, that counts as one part, however long it is: a reply that is there, unread, is no time-out.
        """
        loop = asyncio.get_running_loop()
        part, left = max(seconds, 0.001) / PARTS, PARTS
        due = loop.time() + part
        timer: asyncio.TimerHandle

        async with asyncio.timeout(None) as scope:

            def part_ended() -> None:
                nonlocal left, due, timer
                late = loop.time() - due
                ended = 1 if late > HELD_UP_S else 1 + int(late / part)
                left -= ended
                if left > 0:
                    due = loop.time() + part if late > HELD_UP_S else due + ended * part
                    timer = loop.call_at(due, part_ended)
                else:
                    scope.reschedule(loop.time())

            timer = loop.call_at(due, part_ended)
            try:
                return await work(*args)
            finally:
                timer.cancel()

else:

    async def bounded(seconds: float, work: Work[T], *args: Any) -> T:
        """Runs it, and raises TimeoutError if that takes longer."""
        try:
            return await asyncio.wait_for(work(*args), seconds)
        except asyncio.TimeoutError:
            raise TimeoutError from None


async def first_of(works: Sequence[Work[T]], *args: Any) -> tuple[int, T]:
    """Runs them at the same time: the place and the result of the first that has one. Raises if none has."""
    tasks = [asyncio.get_running_loop().create_task(work(*args)) for work in works]
    pending = set(tasks)
    try:
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            found = [task for task in done if task.exception() is None]
            if found:
                return tasks.index(found[0]), found[0].result()
    finally:
        for task in pending:
            task.add_done_callback(seen)
            task.cancel()
    return 0, tasks[0].result()


def seen(task: asyncio.Task[Any]) -> None:
    """Its error is logged or raised elsewhere, or does not matter any more: this marks it as seen."""
    if not task.cancelled():
        task.exception()


class Mutex:
    """Guards a few lines without `await`: in one event loop nothing can come between them."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


class Event:
    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        self._event.clear()

    def is_set(self) -> bool:
        return self._event.is_set()

    async def wait(self, seconds: float | None) -> bool:
        """Whether it was set in this time."""
        if seconds is None:
            return await self._event.wait()
        try:
            await bounded(seconds, self._event.wait)
        except TimeoutError:
            return False
        return True


class Places:
    """A number of places of which each is taken by one at a time."""

    def __init__(self, count: int) -> None:
        self._places = asyncio.Semaphore(count)

    async def take(self, seconds: float | None) -> bool:
        if not self._places.locked():
            await self._places.acquire()
            return True
        if seconds is None:
            await self._places.acquire()
            return True
        try:
            await bounded(seconds, self._places.acquire)
        except TimeoutError:
            return False
        return True

    def free(self) -> None:
        self._places.release()


class Tasks:
    """What runs in the background. Each task is kept here until it ends, or else the garbage collector could take
    it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Work[Any], *args: Any) -> None:
        """Runs it in the background."""
        self._started(work, *args).add_done_callback(self._failed)

    def _failed(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logging.getLogger("redis_gateway").error("a background task failed", exc_info=error)

    def _started(self, work: Work[T], *args: Any) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work(*args))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        seen(task)

    async def to_the_end(self, work: Work[T], *args: Any) -> T:
        """Runs it to its end, even if whoever waits for it is cancelled."""
        return await asyncio.shield(self._started(work, *args))

    async def finish(self, seconds: float) -> None:
        """Waits for all that runs, also for what that starts, and cancels what runs for longer."""
        end = asyncio.get_running_loop().time() + seconds
        while (tasks := self._others()) and (left := end - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(tasks, timeout=left)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    def _others(self) -> set[asyncio.Task[Any]]:
        return self._tasks - {asyncio.current_task()}


def at_exit(work: Work[Any]) -> None:
    """Runs it when the program ends, and its event loop has ended."""
    asyncio.run(work())


def is_closed(connection: Any) -> bool:
    """Whether the server has closed it. The pool of redis-py 5 does not notice."""
    reader = getattr(connection, "_reader", None)
    return reader is not None and bool(reader.at_eof())


async def drop(connection: Any) -> None:
    """Closes a connection whose next reply may belong to an earlier command."""
    await connection.disconnect(nowait=True)


def cluster_nodes(client: Any) -> tuple[type[Any], dict[str, Any], list[tuple[str, int]]]:
    """The class and settings of the client's connections, and the addresses that it knows."""
    nodes = [*client.nodes_manager.nodes_cache.values(), *client.nodes_manager.startup_nodes.values()]
    return nodes[0].connection_class, dict(nodes[0].connection_kwargs), [(node.host, int(node.port)) for node in nodes]


@contextlib.asynccontextmanager
async def closing_source(source: AsyncIterable[T]) -> AsyncGenerator[AsyncIterator[T], None]:
    """Iterates over it, and closes it in the end if it can be closed."""
    pieces = source.__aiter__()
    try:
        yield pieces
    finally:
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()
