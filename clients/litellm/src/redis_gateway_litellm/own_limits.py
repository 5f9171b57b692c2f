"""LiteLLM's own limiter: taken out, or warned about."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from .policies import complain

__all__ = ["attend_to_own_limits", "warn_of_unread"]

log = logging.getLogger("redis_gateway_litellm")
LIMITERS = ("_PROXY_MaxParallelRequestsHandler_v3", "_PROXY_MaxParallelRequestsHandler")
# What LiteLLM's limiter knows beyond this plugin, of a key with its team, its end user and its project.
UNREAD = ("tpd_limit", "team_tpd_limit", "end_user_tpd_limit")
UNREAD_OF_PROJECT = ("model_rpm_limit", "model_tpm_limit", "model_itpm_limit", "model_otpm_limit")


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


def warn_of_unread(auth: Any) -> None:
    """A limit that LiteLLM's own limiter would check, and that nobody checks if it is taken out."""
    project = getattr(auth, "project_metadata", None)
    project = project if isinstance(project, Mapping) else {}
    found = [name for name in UNREAD if getattr(auth, name, None) is not None]
    found += [f"{name} of a project" for name in UNREAD_OF_PROJECT if project.get(name)]
    if found:
        complain(f"nobody checks {', '.join(found)}: redis_gateway.own_limiter: keep leaves LiteLLM's own limiter on")
