"""LiteLLM's own limiter: taken out, or warned about."""

from __future__ import annotations

import logging

__all__ = ["attend_to_own_limits"]

log = logging.getLogger("redis_gateway_litellm")
LIMITERS = (
    "_PROXY_MaxParallelRequestsHandler_v3",
    "_PROXY_MaxParallelRequestsHandler",
    "_PROXY_DynamicRateLimitHandlerV3",
)


def attend_to_own_limits(replace: bool) -> None:
    """LiteLLM's limiter is one of its callbacks, and counts every request again. Two limiters refuse more than either
    of them: so it is taken out of the list, unless the settings keep it."""
    import litellm

    found = [callback for callback in litellm.callbacks if type(callback).__name__ in LIMITERS]
    if found and not replace:
        log.warning(
            "LiteLLM's own limiter (%s) is on as well: requests are counted twice, and refused by either",
            ", ".join(sorted({type(callback).__name__ for callback in found})),
        )
        return
    for callback in found:
        for callbacks in lists_of_callbacks():
            callbacks[:] = [one for one in callbacks if one is not callback]
    if found:
        log.info("LiteLLM's own limiter is replaced by redis-gateway")


def lists_of_callbacks() -> list[list[object]]:
    import litellm

    names = ("callbacks", "success_callback", "failure_callback", "_async_success_callback", "_async_failure_callback")
    return [found for name in names if isinstance(found := getattr(litellm, name, None), list)]
