"""Whom a request is charged to: its key, user, team, member, organisation and end user, and limits by model and tag."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from .owners import Owners, mapping
from .policies import UNKNOWN, Policy, budget, document, entry_of, limits, money

__all__ = ["Account", "accounts_of", "key_of"]

LONGEST_NAME = 256
# What the accounts of each owner are called in Redis.
KINDS = {"user": "user", "team": "team", "organization": "org", "end_user": "end-user"}


@dataclass(frozen=True)
class Account:
    key: str
    """In Redis."""
    scope: str
    """What a client is told whose limit it is: `key`, `team`, `key for model gpt-4o`."""
    policies: tuple[Policy, ...] = ()
    spent: Decimal = Decimal(0)
    """What LiteLLM says was spent in this period."""
    complete: bool = True
    """LiteLLM has told all of its limits. If not, another replica may know more."""
    written: str = field(init=False, compare=False)
    """The policies as a document."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "written", document(self.policies))


def accounts_of(
    auth: Any, data: Mapping[str, Any], prefix: str, *, token_meter: str, owners: Owners, book_end_users: bool = True
) -> list[Account]:
    """The accounts of a request, those of its key first. `auth` is LiteLLM's UserAPIKeyAuth, which does not have the
    budget_duration of users, teams and organisations. `book_end_users`: also those without limits have accounts."""
    model = data.get("model") if isinstance(data.get("model"), str) else None
    tags = tags_of(data)
    made: list[Account] = []

    def add(
        kind: str,
        name: object,
        scope: str,
        policies: list[Policy],
        spent: object = 0,
        *,
        always: bool = False,
        complete: bool = True,
    ) -> None:
        if name and (policies or always):
            key = key_of(prefix, kind, name)
            made.append(Account(key, scope, tuple(policies), max(money(spent or 0), Decimal(0)), complete))

    def owner(
        kind: str,
        name: object,
        scope: str,
        own: list[Policy],
        most: object,
        soft: object,
        spent: object,
        always: bool = True,
    ) -> None:
        """One whose budget_duration LiteLLM may not tell."""
        duration, reset_at = owners.duration(kind, auth)
        whose = "an end user" if kind == "end_user" else f"{kind} {name}"
        own = own + budget(most, soft, duration, reset_at, whose)
        known = duration != UNKNOWN or (most is None and soft is None)
        complete = known and (bool(own) or owners.unlimited(kind, auth))
        add(KINDS[kind], name, scope, own, spent, always=always, complete=complete)

    def at(rpm: object, tpm: object, parallel: object = None) -> list[Policy]:
        return limits(rpm, tpm, parallel, token_meter=token_meter)

    def by_model(kind: str, name: object, scope: str, rpm: object, tpm: object, budgets: object = None) -> None:
        if not name or not model:
            return
        # As with LiteLLM an entry has one counter, for all models that it fits.
        entry, told = entry_of(budgets, model)
        told = mapping(told)
        of_rpm, most_rpm = entry_of(rpm, model)
        of_tpm, most_tpm = entry_of(tpm, model)
        most = first(told.get("max_budget"), told.get("budget_limit"))
        duration = first(told.get("budget_duration"), told.get("time_period"))
        by_entry: dict[str, list[Policy]] = {}
        for under, policies in (
            (of_rpm, at(most_rpm, None)) if of_rpm else (entry, at(told.get("rpm_limit"), None)),
            (of_tpm, at(None, most_tpm)) if of_tpm else (entry, at(None, told.get("tpm_limit"))),
            (entry, budget(most, None, duration, None, f"{scope} for {entry}")),
        ):
            if under is not None:
                by_entry.setdefault(under, []).extend(policies)
        for under, policies in by_entry.items():
            add(f"{kind}-model", joined(name, under), f"{scope} for model {under}", policies)

    own, of_team, of_org = (
        mapping(getattr(auth, name)) for name in ("metadata", "team_metadata", "organization_metadata")
    )
    key = hashed(auth.api_key)
    policies = at(auth.rpm_limit, auth.tpm_limit, auth.max_parallel_requests)
    policies += budget(auth.max_budget, auth.soft_budget, auth.budget_duration, auth.budget_reset_at, "a key")
    add("key", key, "key", policies, auth.spend, always=True)
    by_model(
        "key",
        key,
        "key",
        first(own.get("model_rpm_limit"), auth.rpm_limit_per_model),
        first(own.get("model_tpm_limit"), auth.tpm_limit_per_model),
        auth.model_max_budget,
    )
    for tag in tags:
        rpm, tpm = (mapping(own.get(name)).get(tag) for name in ("tag_rpm_limit", "tag_tpm_limit"))
        add("key-tag", joined(key, tag), f"key for tag {tag}", at(rpm, tpm))

    user = auth.user_id
    own_limits = at(auth.user_rpm_limit, auth.user_tpm_limit)
    owner("user", user, "user", own_limits, auth.user_max_budget, None, auth.user_spend)
    by_model("user", user, "user", None, None, auth.user_model_max_budget)

    team = auth.team_id
    own_limits = at(auth.team_rpm_limit, auth.team_tpm_limit)
    owner("team", team, "team", own_limits, auth.team_max_budget, auth.team_soft_budget, auth.team_spend)
    by_model(
        "team",
        team,
        "team",
        of_team.get("model_rpm_limit"),
        of_team.get("model_tpm_limit"),
        auth.team_model_max_budget,
    )
    member = joined(team, user) if user else None
    add("member", member, "team member", at(auth.team_member_rpm_limit, auth.team_member_tpm_limit))

    org = auth.org_id
    own_limits = at(auth.organization_rpm_limit, auth.organization_tpm_limit)
    spent = getattr(getattr(auth, "org_budget_snapshot", None), "spend", 0)
    owner("organization", org, "organization", own_limits, auth.organization_max_budget, None, spent)
    by_model("org", org, "organization", of_org.get("model_rpm_limit"), of_org.get("model_tpm_limit"))

    customer = auth.end_user_id
    own_limits = at(auth.end_user_rpm_limit, auth.end_user_tpm_limit)
    owner("end_user", customer, "end user", own_limits, auth.end_user_max_budget, None, 0, always=book_end_users)
    by_model("end-user", customer, "end user", None, None, auth.end_user_model_max_budget)
    return made


def key_of(prefix: str, kind: str, name: object) -> str:
    """Of an account in Redis."""
    return f"{{{prefix}}}:{kind}:{part_of_key(str(name))}"


def part_of_key(name: str) -> str:
    """A name as a part of a key in Redis: no client makes it long, or one that cannot be sent."""
    name = name.encode("utf-8", "backslashreplace").decode()
    return name if len(name) <= LONGEST_NAME else hashlib.sha256(name.encode()).hexdigest()


def joined(owner: object, name: object) -> str | None:
    """Two names as one. Colons of the first are written otherwise, so that no two pairs have the same name."""
    return f"{str(owner).replace('%', '%25').replace(':', '%3A')}:{name}" if owner else None


def hashed(key: object) -> str | None:
    """As LiteLLM names a key. Only what a custom_auth makes may not be hashed yet."""
    if not isinstance(key, str) or not key:
        return None
    if len(key) == 64 and not key.strip(string.hexdigits):
        return key
    return hashlib.sha256(key.encode()).hexdigest()


def first(*values: object) -> object:
    return next((value for value in values if value is not None), None)


def tags_of(data: Mapping[str, Any]) -> list[str]:
    """The request's tags, which LiteLLM has gathered in its metadata."""
    found: dict[str, None] = {}
    for bucket in (data.get("metadata"), data.get("litellm_metadata"), data):
        tags = mapping(bucket).get("tags")
        if isinstance(tags, (list, tuple)):
            found.update((tag, None) for tag in tags if isinstance(tag, str) and tag)
    return list(found)
