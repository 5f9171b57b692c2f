"""What the gateways of a process have to do when it forks and when it ends."""

from __future__ import annotations

import atexit
import contextlib
import os
import weakref
from typing import Protocol

__all__ = ["Owned", "watch"]


class Owned:
    """Stands for something that the server has given to this process, such as a lock. A child that is forked gets a
    copy of the object, not what it stands for: it must neither end it nor keep it alive, nor take its mutex, which a
    thread of the parent may have held at that moment."""

    __slots__ = ("_pid",)

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def mine(self) -> bool:
        return self._pid == os.getpid()


class Lasting(Protocol):
    def after_fork(self) -> None: ...

    def at_exit(self) -> None: ...


_all: weakref.WeakSet[Lasting] = weakref.WeakSet()


def watch(one: Lasting) -> None:
    _all.add(one)


def _after_fork() -> None:
    for one in list(_all):
        one.after_fork()


def _at_exit() -> None:
    for one in list(_all):
        # One that fails must not keep the others from sending what they have.
        with contextlib.suppress(Exception):
            one.at_exit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
