"""Whom a request is charged to, and when policies are put: without a proxy."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
import redis.asyncio
from litellm.proxy._types import UserAPIKeyAuth

from proxies import LONG
from redis_gateway import AsyncGateway, Settings
from redis_gateway.testing import FakeRedis
from redis_gateway_litellm.accounts import Account, accounts_of
from redis_gateway_litellm.away import LocalLimits
from redis_gateway_litellm.estimates import MOST_TOKENS, Prices, estimate
from redis_gateway_litellm.owners import Duration, Owners
from redis_gateway_litellm.policies import MOST_USD, budget, entry_of, limits, money
from redis_gateway_litellm.refusals import local_refusal
from redis_gateway_litellm.synchronise import Synchroniser
from servers import Server, needs_server


class Told(Owners):
    """What LiteLLM has in its memory: the duration of all budgets, or nothing."""

    def __init__(self, unknown: bool) -> None:
        super().__init__(None, database=True)
        self._unknown = unknown

    def duration(self, kind: str, auth: Any) -> Duration:
        return ("unknown" if self._unknown else "1d"), None


def accounts(
    model: str = "gpt-4o",
    tags: tuple[str, ...] = (),
    unknown: bool = False,
    book_end_users: bool = True,
    **settings: Any,
) -> list[Account]:
    auth = UserAPIKeyAuth(api_key="sk-1", **settings)
    return accounts_of(
        auth,
        {"model": model, "metadata": {"tags": list(tags)}},
        "litellm",
        token_meter="tokens",
        owners=Told(unknown),
        book_end_users=book_end_users,
    )


def keys(*arguments: Any, **settings: Any) -> set[str]:
    return {account.key for account in accounts(*arguments, **settings)}


def key_of(kind: str, *arguments: Any, **settings: Any) -> str:
    [found] = (key for key in keys(*arguments, **settings) if key.split(":")[1] == kind)
    return found


def test_two_members_never_share_an_account() -> None:
    one = key_of("member", team_id="a:b", user_id="c", team_member_rpm_limit=1)
    two = key_of("member", team_id="a", user_id="b:c", team_member_rpm_limit=1)
    three = key_of("member", team_id="a%3Ab", user_id="c", team_member_rpm_limit=1)
    assert len({one, two, three}) == 3


def test_two_owners_never_share_an_account_of_a_model() -> None:
    settings = {"budget_limit": 1, "time_period": "1d"}
    one = key_of("end-user-model", "c", end_user_id="a:b", end_user_model_max_budget={"c": settings})
    two = key_of("end-user-model", "b:c", end_user_id="a", end_user_model_max_budget={"b:c": settings})
    assert one != two


def test_end_users_without_limits_have_accounts_if_litellm_books_their_spend() -> None:
    for books, limit, scopes in ((True, None, ["end user"]), (False, None, []), (False, 5, ["end user"])):
        found = accounts(end_user_id="c", end_user_rpm_limit=limit, book_end_users=books)
        assert [account.scope for account in found if account.scope != "key"] == scopes


@pytest.mark.parametrize("name", ["{other}:x", "with a space", "two\nlines", "\ud800", "ü" * 10_000])
def test_a_client_chooses_no_slot_and_no_long_key(name: str) -> None:
    found = key_of("end-user", end_user_id=name, end_user_rpm_limit=1)
    assert found.startswith("{litellm}:end-user:")
    assert len(found.encode()) < 1_100


def test_a_pattern_is_one_account_for_all_of_its_models() -> None:
    """As in LiteLLM: else each name of a model would have a budget of its own."""
    settings = {"model_max_budget": {"gpt-*": {"budget_limit": 1, "time_period": "1d", "rpm_limit": 5}}}
    found = {key_of("key-model", model, **settings) for model in ("gpt-4o", "gpt-5", "openai/gpt-5")}
    assert len(found) == 1
    assert found.pop().endswith(":gpt-*")
    assert not any(":key-model:" in key for key in keys("claude", **settings))


def test_entries_of_several_settings_are_accounts_of_their_own() -> None:
    settings = {
        "metadata": {"model_rpm_limit": {"gpt-4o": 5}, "model_tpm_limit": {"gpt-4o": 9}},
        "model_max_budget": {"gpt-*": {"budget_limit": 1, "time_period": "1d"}},
    }
    found = {account.key.rpartition(":")[2]: account for account in accounts(**settings)}
    assert [policy["name"] for policy in found["gpt-4o"].policies] == ["rpm", "tpm"]
    assert [policy["name"] for policy in found["gpt-*"].policies] == ["budget"]


def test_which_entry_governs_a_model() -> None:
    told = {"gpt-4o": 1, "gpt-*": 2, "*-mini": 3, "*": 4, "azure/gpt-4o": 5, "a*b*c": 6}
    for model, entry in (
        ("gpt-4o", "gpt-4o"),
        ("openai/gpt-4o", "gpt-4o"),
        ("azure/gpt-4o", "azure/gpt-4o"),
        ("gpt-5", "gpt-*"),
        ("o4-mini", "*-mini"),
        ("a-b-c", "a*b*c"),
        ("anything", "*"),
    ):
        assert entry_of(told, model) == (entry, told[entry])
    assert entry_of({"ab*ba": 1}, "aba") == (None, None)
    assert entry_of(None, "m") == (None, None)


# Amounts that a client or an operator may write, and that the server does not take.


def test_no_budget_is_refused_by_the_server() -> None:
    assert money(1e30) == MOST_USD
    assert budget(1e18, None, None, None, "a key")[0]["amount"] == f"{MOST_USD:f}"
    assert budget(float("inf"), None, "1d", None, "a key") == []
    assert budget(5, None, "400d", None, "a key") == []
    assert budget(0.1234567891234, None, "1h", None, "a key")[0]["limit"] == "0.123456789"


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"max_tokens": 10**30}, MOST_TOKENS),
        ({"max_tokens": 10, "n": 10**30}, MOST_TOKENS),
        ({"max_tokens": 0}, 700),
        ({"max_tokens": -1}, 700),
        ({"max_tokens": True}, 700),
        # A bound that the provider does not read holds nothing back.
        ({"max_output_tokens": 1, "max_tokens": 50}, 50),
        ({"max_tokens": 50, "n": -3}, 50),
    ],
)
def test_what_a_client_writes_as_bounds(bounds: dict[str, int], expected: int) -> None:
    guess = estimate({"model": "none", **bounds}, "acompletion", 700, Prices())
    assert guess.output_tokens == expected
    assert int(guess.amounts()["tokens"]) < 2**53


# When policies are put.


def account(*policies: Any, complete: bool = True) -> Account:
    return Account("{litellm}:team:t", "team", tuple(policies), complete=complete)


async def policies(gateway: AsyncGateway) -> list[str]:
    """Their names, as a request meets them."""
    async with await gateway.admit("{litellm}:team:t") as admission:
        return [row.policy for row in admission.rows]


def test_what_a_replica_does_not_know_takes_nothing_away() -> None:
    """LiteLLM tells the period of a team's budget on some replicas only: the others leave the budget alone."""

    async def main() -> list[str]:
        async with AsyncGateway(FakeRedis()) as gateway:
            knows, does_not = (Synchroniser(gateway, present_spend=False) for _ in range(2))
            await knows.put([account(*budget(5, None, "1d", None, "t"))])
            await does_not.put([account(complete=False)])
            return await policies(gateway)

    assert asyncio.run(main()) == ["budget"]
    [team] = (one for one in accounts(team_id="t", team_max_budget=5, unknown=True) if one.scope == "team")
    assert not team.complete
    assert all(one.complete for one in accounts(team_id="t", team_rpm_limit=5, unknown=True))


def test_limits_that_are_known_to_be_gone_are_taken_away() -> None:
    """Also right after a request of whose limits LiteLLM did not tell."""

    async def main() -> list[list[str]]:
        async with AsyncGateway(FakeRedis()) as gateway:
            other, ours = (Synchroniser(gateway, present_spend=False) for _ in range(2))
            await other.put([account(*limits(5, None))])
            found = []
            for complete in (False, True, False):
                await ours.put([account(complete=complete)])
                found.append(await policies(gateway))
            return found

    assert asyncio.run(main()) == [["rpm"], [], []]


def test_policies_that_somebody_has_changed_are_put_again() -> None:
    async def main() -> list[list[str]]:
        async with AsyncGateway(FakeRedis()) as gateway:
            commands = gateway.commands
            found = []
            for again_after in (600.0, 0.0):
                ours = Synchroniser(gateway, present_spend=False, again_after=again_after)
                await ours.put([account(*limits(5, None))])
                await commands.policy_put("{litellm}:team:t", '{"policies":[]}')
                await ours.put([account(*limits(5, None))])
                found.append(await policies(gateway))
            return found

    assert asyncio.run(main()) == [[], ["rpm"]]


def test_the_present_spend_is_kept_if_the_server_goes_away_right_after_making_the_account() -> None:
    """The account is there, so nobody else charges it. It is charged when the server is back, once."""

    class GoesAway(FakeRedis):
        def execute(self, *words: str | bytes | int) -> Any:
            reply = super().execute(*words)
            self.away = words[0] == b"GW.POLICYPUT"
            return reply

    team = Account("{litellm}:team:t", "team", tuple(budget(5, None, None, None, "t")), Decimal("1.25"))

    async def main() -> list[Decimal]:
        fake = GoesAway()
        async with AsyncGateway(fake) as gateway:
            first, second = (Synchroniser(gateway, present_spend=True) for _ in range(2))
            assert await first.put([team]) is None
            assert (fake.away, gateway.kept) == (True, 1)
            fake.away = False
            spent = [await gateway.budgets.spent(team.key, "TOTAL")]
            assert await gateway.send_kept() == 1
            await first.put([team])
            await second.put([team])
            fake.away = False
            return [*spent, await gateway.budgets.spent(team.key, "TOTAL")]

    assert asyncio.run(main()) == [0, Decimal("1.25")]


@needs_server
def test_the_present_spend_is_charged_once_litellm_tells_it() -> None:
    """The request that makes the account of a user may be one of which LiteLLM's database did not tell in time."""
    key = "{litellm}:user:u"
    untold, told = Account(key, "user", complete=False), Account(key, "user", spent=Decimal("1.25"))
    server = Server()

    async def main() -> list[Decimal]:
        client = redis.asyncio.Redis(port=server.port)
        async with AsyncGateway(client, Settings(timeout=LONG, connect_timeout=LONG)) as gateway:
            first, second = (Synchroniser(gateway, present_spend=True) for _ in range(2))
            found = []
            for synchroniser, one in ((first, untold), (second, told), (first, untold), (first, told), (first, told)):
                await synchroniser.put([one])
                found.append(await gateway.budgets.spent(key, "TOTAL"))
            return found

    try:
        assert asyncio.run(main()) == [0, 0, 0, Decimal("1.25"), Decimal("1.25")]
    finally:
        server.close()


# While the server is away.


AMOUNTS: dict[str, int | str] = {"tokens": 30, "input_tokens": 10, "output_tokens": 20, "usd": "0.05"}


def taken(local: LocalLimits, count: int, *policies: Any) -> int:
    return sum(not local.take([account(*policies)], AMOUNTS, str(number)) for number in range(count))


def test_each_process_keeps_its_share_of_the_limits() -> None:
    assert taken(LocalLimits(2, 60), 20, *limits(10, None)) == 5
    assert taken(LocalLimits(2, 60), 20, *limits(None, 300)) == 5
    assert taken(LocalLimits(2, 60), 20, *limits(None, None, 10)) == 5
    assert taken(LocalLimits(2, 60), 20, *limits(1, None)) == 1
    assert taken(LocalLimits(2, 60), 20) == 20


def test_an_account_with_a_budget_has_a_limit_of_requests() -> None:
    assert taken(LocalLimits(1, 3), 20, *budget(5, None, None, None, "t")) == 3
    assert taken(LocalLimits(1, 3), 20, *budget(5, None, "1h", None, "t")) == 3
    assert taken(LocalLimits(1, 3), 20, *limits(7, None), *budget(5, None, None, None, "t")) == 7


def test_a_request_that_one_limit_refuses_takes_nothing_of_the_others() -> None:
    local = LocalLimits(1, 60)
    key = Account("{litellm}:key:k", "key", tuple(limits(3, None, 1)))
    full = Account("{litellm}:team:t", "team", tuple(limits(0, None)))
    for _ in range(5):
        [(whose, policy, wait_ms)] = local.take([key, full], AMOUNTS, "a")
        assert (whose, policy["name"], wait_ms >= 1_000) == (full, "rpm", True)
    assert local.take([key], AMOUNTS, "b") == []
    assert [policy["name"] for _, policy, _ in local.take([key], AMOUNTS, "c")] == ["parallel"]
    local.free([key], "b")
    assert local.take([key], AMOUNTS, "d") == []


def test_a_local_refusal_names_the_policy_and_the_wait() -> None:
    refused = LocalLimits(1, 60).take([account(*limits(0, None))], AMOUNTS, "a")
    error: Any = local_refusal(refused, "gpt-4o")
    assert error.status_code == 429
    assert error.headers == {"Retry-After": "1"}
    [policy] = error.provider_specific_fields["policies"]
    assert (policy["scope"], policy["policy"], policy["limit"], policy["local"]) == ("team", "rpm", 0, True)
    assert "team: rpm of 0 requests in 60 s" in error.message


def test_money_is_exact() -> None:
    assert money(0.1) == Decimal("0.1")
