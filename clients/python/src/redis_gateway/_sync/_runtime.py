"""What differs between the asynchronous and the synchronous half: tasks, locks, waiting. Its twin is
../_async/_runtime.py."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from redis import ConnectionPool, Redis, RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

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
    "at_exit",
    "bounded",
    "closing",
    "closing_source",
    "cluster_nodes",
    "drop",
    "first_of",
    "is_closed",
    "sleep",
    "socket_timeout",
]

T = TypeVar("T")
closing = contextlib.closing
sleep = time.sleep

Work = Callable[..., T]


def socket_timeout(seconds: float) -> float:
    """The time-outs of the socket are the bound."""
    return seconds


def bounded(seconds: float, work: Work[T], *args: Any) -> T:
    """Runs it. A thread cannot be interrupted: the time-outs of the socket are the bound."""
    return work(*args)


def first_of(works: Sequence[Work[T]], *args: Any) -> tuple[int, T]:
    """Runs them at the same time: the place and the result of the first that has one. Raises if none has. The others end
    by their own time-outs."""
    found: queue.SimpleQueue[tuple[int, list[T], Exception | None]] = queue.SimpleQueue()

    def run(place: int) -> None:
        try:
            found.put((place, [works[place](*args)], None))
        except Exception as error:
            found.put((place, [], error))

    for place in range(len(works)):
        try:
            threading.Thread(target=run, args=(place,), daemon=True).start()
        except RuntimeError:
            run(place)  # The program ends: no thread can be started any more.
    for left in range(len(works) - 1, -1, -1):
        place, results, error = found.get()
        if results:
            return place, results[0]
        if error is not None and left == 0:
            raise error
    raise ValueError("works: at least one")


class Mutex:
    """Guards a few lines that wait for nothing."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # A garbage collection may end a generator here, which settles.

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Event:
    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        self._event.clear()

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float | None) -> bool:
        """Whether it was set in this time."""
        return self._event.wait(seconds)


class Places:
    """A number of places of which each is taken by one at a time."""

    def __init__(self, count: int) -> None:
        self._places = threading.Semaphore(count)

    def take(self, seconds: float | None) -> bool:
        return self._places.acquire(timeout=seconds)

    def free(self) -> None:
        self._places.release()


class Tasks:
    """What runs in the background, each in a thread that does not keep the process from ending."""

    def __init__(self) -> None:
        self._threads: set[threading.Thread] = set()

    def start(self, work: Work[Any], *args: Any) -> None:
        """Runs it in the background."""

        def run() -> None:
            try:
                work(*args)
            except Exception:
                logging.getLogger("redis_gateway").exception("a background task failed")
            finally:
                self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, name=f"redis_gateway.{getattr(work, '__name__', 'task')}", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:
            self._threads.discard(thread)
            raise

    def to_the_end(self, work: Work[T], *args: Any) -> T:
        """Runs it to its end. Nothing can interrupt it here."""
        return work(*args)

    def finish(self, seconds: float) -> None:
        """Waits for all that runs, also for what that starts, but no longer than this."""
        end = time.monotonic() + seconds
        while (threads := self._threads - {threading.current_thread()}) and (left := end - time.monotonic()) > 0:
            threads.pop().join(left)


def at_exit(work: Work[Any]) -> None:
    """Runs it when the program ends."""
    work()


def is_closed(connection: Any) -> bool:
    """Whether the server has closed it. The pool has looked."""
    return False


def drop(connection: Any) -> None:
    """Closes a connection whose next reply may belong to an earlier command."""
    connection.disconnect()


def cluster_nodes(client: Any) -> tuple[type[Any], dict[str, Any], list[tuple[str, int]]]:
    """The class and settings of the client's connections, and the addresses that it knows."""
    nodes = [*client.nodes_manager.nodes_cache.values(), *client.nodes_manager.startup_nodes.values()]
    pool = next(node.redis_connection for node in nodes if node.redis_connection is not None).connection_pool
    return pool.connection_class, dict(pool.connection_kwargs), [(node.host, int(node.port)) for node in nodes]


@contextlib.contextmanager
def closing_source(source: Iterable[T]) -> Generator[Iterator[T], None, None]:
    """Iterates over it, and closes it in the end if it can be closed."""
    pieces = iter(source)
    try:
        yield pieces
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()
