"""What LiteLLM knows of a request's owners besides what it hands to plugins. Only this process's memory is read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, TypeAlias

from .policies import UNKNOWN

__all__ = ["Duration", "Owners", "mapping"]

Duration: TypeAlias = "tuple[object, datetime | None]"
"""The budget_duration of an owner, and when the present period ends."""

MOST_KNOWN = 100_000
# Where LiteLLM keeps the ids of all end users that have limits.
RESTRICTED = "end_user_restricted_registry"


class Owners:
    """Users, teams, organisations and end users."""

    NAMES: ClassVar = {
        "user": "{}",
        "team": "team_id:{}",
        "organization": "org_id:{}:with_budget",
        "end_user": "end_user_id:{}",
    }
    FIELDS: ClassVar = {"user": "user_id", "team": "team_id", "organization": "org_id", "end_user": "end_user_id"}

    def __init__(
        self,
        cache: Any,
        known: dict[tuple[str, str], Duration] | None = None,
        *,
        database: bool = False,
        custom_auth: bool = False,
    ) -> None:
        """`cache` is LiteLLM's, of keys and their owners. LiteLLM forgets an organisation after some seconds, so what
        it has told before is in `known`. `database`: LiteLLM has one. `custom_auth`: a function of the operator's tells
        of keys and users instead."""
        self._known = {} if known is None else known
        memory = getattr(cache, "in_memory_cache", None)
        # With `enable_redis_auth_cache` what is in memory is elsewhere.
        self._local = getattr(cache, "get_local", None) or getattr(memory, "get_cache", None)
        self._read = {"user": database and not custom_auth, "end_user": database}

    def duration(self, kind: str, auth: Any) -> Duration:
        """The budget_duration: from LiteLLM's memory, or from the key's metadata, where a custom_auth may put it."""
        told = mapping(auth.metadata).get(f"{kind}_budget_duration", UNKNOWN)
        if told != UNKNOWN:
            return (None if told == "total" else told), None
        name = getattr(auth, self.FIELDS[kind])
        found = self._remembered(kind, name)
        for holder in (found, field_of(found, "litellm_budget_table")):
            if has_field(holder, "budget_duration"):
                if len(self._known) >= MOST_KNOWN:
                    self._known.clear()
                duration = field_of(holder, "budget_duration"), moment(field_of(holder, "budget_reset_at"))
                self._known[kind, name] = duration
                return duration
        return self._known.get((kind, name), (UNKNOWN, None))

    def unlimited(self, kind: str, auth: Any) -> bool:
        """Whether it is certain that an owner has no limits if LiteLLM hands over none. Of users and end users LiteLLM
        asks its database by themselves, and goes on without their limits if it does not answer."""
        if not self._read.get(kind):
            return True
        name = getattr(auth, self.FIELDS[kind])
        if self._remembered(kind, name) is not None:
            return True
        limited = self._local(RESTRICTED) if kind == "end_user" and self._local is not None else None
        return isinstance(limited, (list, tuple)) and name not in limited

    def _remembered(self, kind: str, name: object) -> Any:
        return self._local(self.NAMES[kind].format(name)) if self._local is not None and name else None


def mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def has_field(holder: object, name: str) -> bool:
    return name in holder if isinstance(holder, Mapping) else hasattr(holder, name)


def field_of(holder: object, name: str) -> Any:
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)


def moment(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(value.replace("Z", "+00:00")) if isinstance(value, str) else None
    except ValueError:
        return None
