"""LiteLLM's own authentication hands over the settings of keys, users, teams and organisations: its code, its objects,
and its memory of them, over tables that stand for its database. No prisma and no PostgreSQL are among them."""

from __future__ import annotations

import asyncio
import inspect
from datetime import datetime, timezone
from typing import Any

import litellm
import pytest
from fastapi import Request
from litellm.models.budget import LiteLLM_BudgetTable
from litellm.models.end_user import LiteLLM_EndUserTable
from litellm.models.organization import LiteLLM_OrganizationTable
from litellm.models.team import LiteLLM_TeamTable
from litellm.models.user import LiteLLM_UserTable
from litellm.proxy import proxy_server
from litellm.proxy._types import UserAPIKeyAuth, hash_token
from litellm.proxy.auth import auth_checks, user_api_key_auth
from litellm.proxy.common_utils.user_api_key_cache import UserApiKeyCache
from litellm.types.proxy.auth.user_api_key_auth import LiteLLM_VerificationTokenView

from redis_gateway_litellm.accounts import Account, accounts_of
from redis_gateway_litellm.handler import books_end_users, owners_of
from redis_gateway_litellm.owners import Duration, Owners

KEY = "sk-of-the-database"
END_OF_DAY = datetime(2026, 1, 2, 8, 0, tzinfo=timezone.utc)
BODY = b'{"model": "gpt-4o", "messages": [], "user": "customer", "metadata": {"tags": ["night"]}}'

# What LiteLLM's query of a key joins: the key's own settings, its team's and its organisation's.
VIEW = LiteLLM_VerificationTokenView(
    token=hash_token(KEY),
    user_id="ann",
    team_id="research",
    org_id="lab",
    rpm_limit=5,
    tpm_limit=900,
    max_parallel_requests=3,
    max_budget=3.5,
    budget_duration="1d",
    budget_reset_at=END_OF_DAY,
    spend=0.25,
    model_max_budget={"gpt-*": {"budget_limit": 2, "time_period": "7d"}},
    metadata={"model_rpm_limit": {"gpt-4o": 2}, "tag_rpm_limit": {"night": 1}},
    team_rpm_limit=7,
    team_max_budget=90.0,
    team_soft_budget=45.0,
    team_spend=12.5,
    team_member_rpm_limit=4,
    organization_rpm_limit=70,
    organization_max_budget=900.0,
)
ROWS: dict[str, Any] = {
    "litellm_usertable": LiteLLM_UserTable(
        user_id="ann", user_email="ann@example.org", rpm_limit=11, max_budget=40.0, spend=0.5, budget_duration="7d"
    ),
    "litellm_teamtable": LiteLLM_TeamTable(
        team_id="research",
        max_budget=90.0,
        soft_budget=45.0,
        rpm_limit=7,
        spend=12.5,
        budget_duration="30d",
        metadata={"model_tpm_limit": {"gpt-4o": 700}},
    ),
    "litellm_organizationtable": LiteLLM_OrganizationTable(
        organization_id="lab",
        budget_id="b",
        spend=100.0,
        created_by="root",
        updated_by="root",
        litellm_budget_table=LiteLLM_BudgetTable(max_budget=900.0, rpm_limit=70, budget_duration="1mo"),
    ),
    "litellm_endusertable": LiteLLM_EndUserTable(
        user_id="customer",
        blocked=False,
        spend=0.1,
        budget_id="c",
        litellm_budget_table=LiteLLM_BudgetTable(max_budget=1.0, rpm_limit=6, tpm_limit=800, budget_duration="1h"),
    ),
}


class Table:
    """Answers as prisma's client does."""

    def __init__(self, row: Any, answers: bool) -> None:
        self._row = row
        self._answers = answers

    async def find_unique(self, **_: Any) -> Any:
        if not self._answers:
            raise ConnectionError("the database is busy")
        return self._row

    async def find_many(self, **_: Any) -> list[Any]:
        row = await self.find_unique()
        return [] if row is None else [row]


class Database:
    def __init__(self, rows: dict[str, Any] = ROWS, silent: tuple[str, ...] = ()) -> None:
        """`silent`: the tables of which nothing can be read."""
        self._rows = rows
        self._silent = silent

    @property
    def db(self) -> Database:
        return self

    def __getattr__(self, name: str) -> Table:
        if not name.startswith("litellm_"):
            raise AttributeError(name)
        return Table(self._rows.get(name), name not in self._silent)


def request() -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": BODY, "more_body": False}

    told = [(b"content-type", b"application/json"), (b"authorization", f"Bearer {KEY}".encode())]
    scope = {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "server": ("127.0.0.1", 2),
        "root_path": "",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": told,
        "client": ("127.0.0.1", 1),
        "app": proxy_server.app,
    }
    return Request(scope, receive)


async def authenticated(cache: UserApiKeyCache) -> UserAPIKeyAuth:
    of_key = UserAPIKeyAuth.model_validate(VIEW.model_dump(exclude_none=True))
    await auth_checks.cache_key_object(
        hashed_token=hash_token(KEY), user_api_key_obj=of_key, user_api_key_cache=cache, proxy_logging_obj=None
    )
    return await user_api_key_auth.user_api_key_auth(
        request=request(),
        api_key=f"Bearer {KEY}",
        azure_api_key_header="",
        anthropic_api_key_header=None,
        google_ai_studio_api_key_header=None,
        azure_apim_header=None,
        custom_litellm_key_header=None,
    )


def words(policy: dict[str, Any]) -> str:
    amount = policy.get("limit", policy.get("amount", policy.get("max")))
    return f"{policy['name']} {amount} {policy.get('period') or policy.get('per_ms') or 'at a time'}"


def by_scope(accounts: list[Account]) -> dict[str, list[str]]:
    return {account.scope: [words(policy) for policy in account.policies] for account in accounts}


def accounts_with(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[Account]:
    """Of a request that LiteLLM has authenticated by this database."""
    # LiteLLM keeps an organisation for 5 seconds, in which a busy machine may not come to read it.
    monkeypatch.setattr(auth_checks, "DEFAULT_IN_MEMORY_TTL", 600)
    cache = UserApiKeyCache()
    for name, value in (("user_api_key_cache", cache), ("prisma_client", database), ("master_key", "sk-master")):
        monkeypatch.setattr(proxy_server, name, value)

    async def main() -> list[Account]:
        auth = await authenticated(cache)
        data = {"model": "gpt-4o", "metadata": {"tags": ["night"]}}
        owners = owners_of(cache, {})
        return accounts_of(auth, data, "litellm", token_meter="tokens", owners=owners, book_end_users=books_end_users())

    return asyncio.run(main())


def test_all_settings_of_the_database_become_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    found = accounts_with(Database(), monkeypatch)
    assert by_scope(found) == {
        "key": ["rpm 5 60000", "tpm 900 60000", "parallel 3 at a time", "budget 3.5 86400000"],
        "key for model gpt-4o": ["rpm 2 60000"],
        "key for model gpt-*": ["budget 2 week"],
        "key for tag night": ["rpm 1 60000"],
        "user": ["rpm 11 60000", "budget 40 week"],
        "team": ["rpm 7 60000", "budget 90 month"],
        "team for model gpt-4o": ["tpm 700 60000"],
        "team member": ["rpm 4 60000"],
        "organization": ["rpm 70 60000", "budget 900 month"],
        "end user": ["rpm 6 60000", "tpm 800 60000", "budget 1 3600000"],
    }
    assert all(account.complete for account in found)
    spent = {account.scope: f"{account.spent.normalize():f}" for account in found if account.spent}
    assert spent == {"key": "0.25", "user": "0.5", "team": "12.5", "organization": "100"}


def test_users_of_whom_the_database_does_not_tell_in_time_are_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteLLM goes on without their limits, and books their spend. Another replica may know the limits: they stay."""
    database = Database(silent=("litellm_usertable", "litellm_endusertable"))
    found = {account.scope: account for account in accounts_with(database, monkeypatch)}
    for scope in ("user", "end user"):
        assert (found[scope].policies, found[scope].complete) == ((), False)
    assert all(found[scope].complete for scope in ("key", "team", "organization"))


def test_users_without_limits_are_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it is certain that they have none, limits that they had before are taken away."""
    with_row = {
        "litellm_usertable": LiteLLM_UserTable(user_id="ann", user_email=None),
        "litellm_endusertable": LiteLLM_EndUserTable(user_id="customer", blocked=False),
    }
    for rows, certain in ((ROWS | with_row, True), (ROWS | dict.fromkeys(with_row), False)):
        found = {account.scope: account for account in accounts_with(Database(rows), monkeypatch)}
        assert (found["user"].policies, found["user"].complete) == ((), certain)
        # LiteLLM reads which end users have limits: all others have none, and need no row.
        assert (found["end user"].policies, found["end user"].complete) == ((), True)


def test_end_users_are_booked_as_litellm_does(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ROWS | {"litellm_endusertable": None}
    monkeypatch.setattr(litellm, "disable_end_user_cost_tracking", True)
    assert "end user" not in by_scope(accounts_with(Database(rows), monkeypatch))
    assert by_scope(accounts_with(Database(), monkeypatch))["end user"][0] == "rpm 6 60000"
    monkeypatch.setattr(litellm, "disable_end_user_cost_tracking", None)
    assert books_end_users()
    monkeypatch.setattr(proxy_server, "prisma_client", None)
    assert not books_end_users()


def test_a_custom_auth_and_a_proxy_without_database_tell_all_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they do not tell is not there. But a database may have limits of end users that it does not tell in time."""
    auth = UserAPIKeyAuth(api_key=KEY, user_id="ann", end_user_id="customer")
    for database, custom_auth, certain in (
        (None, None, (True, True)),
        (None, authenticated, (True, True)),
        (Database(), authenticated, (True, False)),
        (Database(), None, (False, False)),
    ):
        monkeypatch.setattr(proxy_server, "prisma_client", database)
        monkeypatch.setattr(proxy_server, "user_custom_auth", custom_auth)
        owners = owners_of(UserApiKeyCache(), {})
        assert (owners.unlimited("user", auth), owners.unlimited("end_user", auth)) == certain


class Shared:
    """Stands for what keeps LiteLLM's memory of keys and teams with `enable_redis_auth_cache`."""

    def __init__(self) -> None:
        self.kept: dict[str, object] = {}

    def get_local(self, key: str) -> object:
        return self.kept.get(key)

    def set_sync(self, key: str, value: object, ttl: float | None) -> None:
        self.kept[key] = value


@pytest.mark.skipif(
    "auth_cache" not in inspect.signature(UserApiKeyCache.__init__).parameters, reason="this LiteLLM has none"
)
def test_durations_are_found_with_a_shared_memory_of_keys() -> None:
    cache = UserApiKeyCache(redis_cache=object(), auth_cache=lambda *_: Shared())  # type: ignore[arg-type,return-value]
    cache.set_cache("team_id:research", ROWS["litellm_teamtable"], model_type=LiteLLM_TeamTable)
    auth = UserAPIKeyAuth(api_key=KEY, team_id="research")
    assert Owners(cache).duration("team", auth) == ("30d", None)


def test_what_litellm_has_forgotten_is_still_known() -> None:
    """An organisation after some seconds."""
    cache = UserApiKeyCache()
    name = "org_id:lab:with_budget"
    cache.set_cache(name, ROWS["litellm_organizationtable"], model_type=LiteLLM_OrganizationTable)
    auth = UserAPIKeyAuth(api_key=KEY, org_id="lab")
    known: dict[tuple[str, str], Duration] = {}
    assert Owners(cache, known).duration("organization", auth) == ("1mo", None)
    cache.delete_cache(name)
    assert Owners(cache).duration("organization", auth) == ("unknown", None)
    assert Owners(cache, known).duration("organization", auth) == ("1mo", None)
