"""What differs between the asynchronous and the synchronous tests. Its twin is ../_async/_runtime.py."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import redis
from redis_gateway import Gateway, Settings
from servers import Server

# Long enough for a busy machine. Tests about time-outs have their own.
PATIENT = Settings(timeout=10.0, connect_timeout=10.0, waiting_timeout=20.0)


def client_client(port: int, **options: Any) -> Any:
    return redis.Redis(port=port, **options)


@contextmanager
def gateway_of(client: Any, settings: Settings = PATIENT, **options: Any) -> Iterator[Gateway]:
    gateway = Gateway(client, settings, **options)
    try:
        yield gateway
    finally:
        gateway.close()
        client.close()


def close_client(client: Any) -> None:
    client.close()


def gateway_on(port: int, settings: Settings = PATIENT, **options: Any) -> Any:
    return gateway_of(client_client(port), settings, **options)


def together(*works: Callable[[], Any]) -> list[Any]:
    """Runs them at the same time. What one raises is its result."""
    results: list[Any] = [None] * len(works)

    def run(at: int, work: Callable[[], Any]) -> None:
        try:
            results[at] = work()
        except BaseException as error:
            results[at] = error

    threads = [threading.Thread(target=run, args=(at, work)) for at, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


class TimeLimit(Exception):
    """As task queues throw it into a worker that takes too long, from the handler of a signal."""


class Interruptions(threading.local):
    """What is to interrupt this thread, each after so many further moments at which it waits."""

    def __init__(self) -> None:
        self.coming: list[tuple[int, type[BaseException]]] = []

    def moment(self) -> None:
        if self.coming:
            left, kind = self.coming.pop(0)
            if left == 0:
                raise kind
            self.coming.insert(0, (left - 1, kind))


interruptions = Interruptions()


def sleep(seconds: float) -> None:
    interruptions.moment()
    time.sleep(seconds)


def interruptible(gateway: Gateway) -> None:
    """A call to the server can be interrupted before it is sent, and when the server has answered."""
    server: Any = gateway._core.transport._alone
    exchange = server._send_and_read

    def interrupted(*args: Any) -> Any:
        interruptions.moment()
        replies = exchange(*args)
        interruptions.moment()
        return replies

    server._send_and_read = interrupted


def broken_off(dice: random.Random, work: Callable[..., Any], *args: Any) -> None:
    """Runs it, and interrupts it at a random moment, or never."""
    kinds = (KeyboardInterrupt, SystemExit, TimeLimit)
    if dice.random() < 0.6:
        interruptions.coming.append((dice.randrange(12), dice.choice(kinds)))
        if dice.random() < 0.3:  # Again, while it is ending.
            interruptions.coming.append((dice.randrange(3), dice.choice(kinds)))
    with suppress(BaseException):
        work(*args)
    interruptions.coming.clear()


def cluster_client(servers: list[Server]) -> Any:
    return redis.RedisCluster(host="127.0.0.1", port=servers[0].port)


def sentinel_client(name: str, *ports: int) -> Any:
    return redis.Sentinel([("127.0.0.1", port) for port in ports]).master_for(name)


def in_thread(work: Callable[..., Any], *args: Any) -> Any:
    return work(*args)
