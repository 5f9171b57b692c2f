"""What differs between the asynchronous and the synchronous tests. Its twin is ../_async/_runtime.py."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis_gateway import Gateway, Settings
from servers import Server

sleep = time.sleep

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


def broken_off(dice: random.Random, work: Callable[..., Any], *args: Any) -> None:
    """Runs it. Nothing can cancel a thread: it ends when something raises in it."""
    work(*args)


def cluster_client(servers: list[Server]) -> Any:
    return redis.RedisCluster(host="127.0.0.1", port=servers[0].port)


def sentinel_client(port: int, name: str) -> Any:
    return redis.Sentinel([("127.0.0.1", port)]).master_for(name)


def in_thread(work: Callable[..., Any], *args: Any) -> Any:
    return work(*args)
