"""Why a call had no reply that can be used."""

from __future__ import annotations

import redis.exceptions as redis_errors

from ._errors import BY_CODE, GatewayError, InternalError, ModuleMissing, NoPermission, NotAuthenticated, error_with

__all__ = ["Unavailable", "code_of", "demoted", "not_now", "typed", "unavailable"]


class Unavailable(Exception):
    """The server is away: no reply in time, no connection, or a reply that says that it cannot serve now."""

    def __init__(self, reason: str, *, sent: bool, down: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        """Such as `timeout`, `connection`, `circuit_open`, `loading`, `oom`."""
        self.sent = sent
        """Whether the server may have done what it was asked to."""
        self.down = down
        """Whether it is the server as a whole. Else only this call was refused: `oom`, `tryagain`."""


# Replies that say that the server cannot serve now. None of them has changed anything. The value: is the server as a
# whole away?
AWAY = {
    "LOADING": True,
    "READONLY": True,
    "MASTERDOWN": True,
    "CLUSTERDOWN": True,
    "NOREPLICAS": True,
    "MISCONF": True,
    "BUSY": True,
    "UNBLOCKED": False,
    "TRYAGAIN": False,
    "OOM": False,
    "MOVED": False,
    "ASK": False,
}

# Replies of a node that is not, or is no longer, the primary: a new connection may lead to another node.
DEMOTED = frozenset(("READONLY", "MASTERDOWN", "UNBLOCKED"))

# Replies that are about how the server or its users are set up, or about a bug, not about what was sent: the same call
# may succeed once that is mended.
NOT_NOW = (NotAuthenticated, NoPermission, ModuleMissing, InternalError)

# redis-py takes the code off the text of these.
CODES: tuple[tuple[type[Exception], str], ...] = (
    (redis_errors.BusyLoadingError, "LOADING"),
    (redis_errors.ReadOnlyError, "READONLY"),
    (redis_errors.OutOfMemoryError, "OOM"),
    (redis_errors.MasterDownError, "MASTERDOWN"),
    (redis_errors.ClusterDownError, "CLUSTERDOWN"),
    (redis_errors.TryAgainError, "TRYAGAIN"),
    (redis_errors.MovedError, "MOVED"),
    (redis_errors.AskError, "ASK"),
    (redis_errors.NoPermissionError, "NOPERM"),
)


def code_of(error: BaseException) -> str:
    """The code of an error reply, such as `NOACCOUNT`; `ERR` if it has none of its own."""
    # MovedError is an AskError.
    for kind, code in CODES:
        if isinstance(error, kind):
            return code
    word = str(error).split(" ", 1)[0]
    return word if word in BY_CODE else "ERR"


def demoted(reply: object) -> bool:
    """Whether the node says that it is not the primary."""
    return isinstance(reply, redis_errors.RedisError) and code_of(reply) in DEMOTED


def not_now(reply: object) -> bool:
    """Whether what must arrive is to be sent again later: the server is away, or refuses whatever comes."""
    return isinstance(reply, (Unavailable, *NOT_NOW))


def typed(error: Exception) -> Exception:
    """The error reply as a type of this package; whatever is no error reply stays as it is."""
    login = (redis_errors.AuthenticationError, redis_errors.AuthorizationError)
    if not isinstance(error, (redis_errors.ResponseError, *login)):
        return error
    code, text = code_of(error), str(error)
    if isinstance(error, login):
        code = "NOAUTH" if code == "ERR" else code
    made: GatewayError = error_with(code, text.removeprefix(f"{code} "))
    return made


def unavailable(error: BaseException, *, connected: bool) -> Unavailable | None:
    """What the error says about the server; None if it is about the call. `connected`: the command was sent, or may
    have been."""
    if isinstance(error, Unavailable):
        return error
    if isinstance(error, (redis_errors.BusyLoadingError, redis_errors.ResponseError)):
        code = code_of(error)
        down = AWAY.get(code)
        return None if down is None else Unavailable(code.lower(), sent=False, down=down)
    if isinstance(error, (redis_errors.AuthenticationError, redis_errors.AuthorizationError)):
        return None
    if isinstance(error, (redis_errors.TimeoutError, TimeoutError)):
        return Unavailable("timeout", sent=connected)
    if isinstance(error, (redis_errors.RedisError, OSError)):
        return Unavailable("connection", sent=connected)
    return None
