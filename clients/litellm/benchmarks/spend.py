"""What LiteLLM's users report of spend that is lost on its way into the database, replayed on two replicas, each with
LiteLLM's own database: LiteLLM's tables beside redis-gateway's ledgers.

    pip install prisma==0.15.0 'litellm-proxy-extras==0.4.110'
    prisma generate --schema <site-packages>/litellm/proxy/schema.prisma
    GW_MODULE=libredis_gateway.so python benchmarks/spend.py

Needs what the tests need, and PostgreSQL's programs. prisma downloads its engines, or they are the programs that
PRISMA_QUERY_ENGINE_BINARY and PRISMA_SCHEMA_ENGINE_BINARY name. prisma-engine/query-engine beside this file is a query
engine from npm. Of the schema engine `generate` only needs that there is one, such as /bin/true. Prints a table.

In short the reports say:

- #9608: with 50 replicas and more, writers of spend deadlock in PostgreSQL.
- #27989: each replica writes the end users of a transaction in an order of its own, and two of them deadlock.
- #34887: what a deadlock has undone is not tried again, so it is lost.
- #29292: of the rows of a day, 100 are written each time, and the others are lost.
- #31866: the updates of spend are most of what is written; the wish is for a switch that leaves them out.
- #34805, #38157: what a replica has not written yet when it ends is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(HERE / "tests"), str(HERE.parent / "python" / "tests")]

from database import Database  # noqa: E402

from proxies import LONG, MASTER, Stack, eventually  # noqa: E402
from traffic import exact_body  # noqa: E402

PRICE = Decimal("0.05")
RUNS = 3
USERS = 150
"""More than the 100 rows that LiteLLM writes at a time."""


class Case:
    """Two replicas with a database, and end users with a budget, which have accounts and ledgers of their own."""

    def __init__(self, ours: bool) -> None:
        self.ours = ours
        self.database = Database()
        self.database.run(
            'insert into "LiteLLM_BudgetTable" (budget_id, max_budget, created_by, updated_by, updated_at) '
            "values ('large', 1e6, '', '', now()); "
            'insert into "LiteLLM_EndUserTable" (user_id, budget_id, spend, blocked) '
            "select 'user-' || lpad(n::text, 3, '0'), 'large', 0, false "
            f"from generate_series(0, {USERS - 1}) n;"
        )
        bin_path = str(Path(sys.executable).parent)
        more: dict[str, Any] = {
            "environment": {
                "DATABASE_URL": self.database.url,
                "DISABLE_SCHEMA_UPDATE": "true",
                "PATH": os.pathsep.join([bin_path, os.environ["PATH"]]),
            },
            "general_settings": {"custom_auth": None},
        }
        if ours:
            # The ledgers have the spend, and a log queue would have the records.
            more["general_settings"]["disable_spend_updates"] = True
            more["redis_gateway"] = {"instances": 2, "timeout": 5.0}
        else:
            more["litellm_settings"] = {"callbacks": ["plugin.refuses"]}
        try:
            self.stack = Stack(replicas=2, **more)
        except BaseException:
            self.database.close()
            raise
        answer = self.stack.post("/key/generate", MASTER, {})
        answer.raise_for_status()
        self.key = answer.json()["key"]

    def send(self, users: list[list[str]]) -> Decimal:
        """A request of each of these users to each replica, all at once. What they cost."""

        async def main() -> int:
            async with httpx.AsyncClient(timeout=300, limits=httpx.Limits(max_connections=None)) as client:
                sent = [
                    client.post(
                        f"{url}/v1/chat/completions",
                        json=exact_body(user=user),
                        headers={"Authorization": f"Bearer {self.key}"},
                    )
                    for url, its in zip(self.stack.urls, users, strict=True)
                    for user in its
                ]
                return [answer.status_code for answer in await asyncio.gather(*sent)].count(200)

        return asyncio.run(main()) * PRICE

    def spent_in_tables(self, table: str) -> Decimal:
        return Decimal(self.database.run(f'select round(coalesce(sum(spend), 0)::numeric, 6) from "{table}"'))

    def settled_in_tables(self, table: str, expected: Decimal) -> Decimal:
        """Once it is there, or nothing has been added for longer than LiteLLM waits between two writes."""
        last, since = self.spent_in_tables(table), time.monotonic()
        while last != expected and time.monotonic() - since < 45:
            time.sleep(1)
            if (now := self.spent_in_tables(table)) != last:
                last, since = now, time.monotonic()
        return last

    def spent_in_ledgers(self, kind: str = "end-user") -> Decimal:
        with self.stack.server.admin() as admin:
            names = sorted(admin.keys(f"{{litellm}}:{kind}:*"))
            return sum((Decimal(admin.execute_command("GW.SPENT", name, "TOTAL")) for name in names), Decimal(0))

    def settled_in_ledgers(self, expected: Decimal) -> Decimal:
        with contextlib.suppress(AssertionError):
            eventually(lambda: self.spent_in_ledgers() == expected, LONG)
        return self.spent_in_ledgers()

    def followed(self) -> Decimal:
        """The same, from the feed of changes, as a worker writes it into the database: but each row twice, and then one
        of a lower version, which changes nothing."""
        self.database.run(
            "create table if not exists spent (account text primary key, version bigint not null, usd numeric not null)"
        )
        with self.stack.server.admin() as admin:
            while True:
                more, ledgers = admin.execute_command("GW.COSTCHANGES")
                rows = [
                    f"('{key}', {version + older}, {amount if older == 0 else 0})"
                    for key, version, _, amounts, _ in ledgers
                    for period, _, amount in amounts
                    if period == "TOTAL" and ":end-user:" in key
                    for older in (0, 0, -1)
                ]
                for row in rows:
                    self.database.run(
                        f"insert into spent values {row} on conflict (account) do update "
                        "set version = excluded.version, usd = excluded.usd where excluded.version > spent.version"
                    )
                for key, version, *_ in ledgers:
                    admin.execute_command("GW.COSTACK", key, version)
                if not more and not ledgers:
                    return Decimal(self.database.run("select coalesce(sum(usd), 0) from spent"))

    def rows_written(self) -> int:
        """In LiteLLM's tables of spend, but not the log of requests itself."""
        return int(
            self.database.run(
                "select coalesce(sum(n_tup_ins + n_tup_upd), 0) from pg_stat_user_tables where relname in "
                "('LiteLLM_EndUserTable', 'LiteLLM_VerificationToken', 'LiteLLM_UserTable', 'LiteLLM_TeamTable', "
                "'LiteLLM_SpendLogDelivery') or relname like 'LiteLLM\\_Daily%Spend'"
            )
        )

    def deadlocks(self) -> int:
        return int(self.database.run("select deadlocks from pg_stat_database where datname = 'postgres'"))

    def close(self) -> None:
        self.stack.close()
        self.database.close()


def run(ours: bool) -> list[str]:
    """Of each row what was found in each run, and of the last one once: it ends the replicas."""
    case = Case(ours)
    found: list[list[str]] = [[] for _ in ROWS]
    names = [f"user-{number:03}" for number in range(USERS)]
    cost = Decimal(0)
    try:
        for _ in range(RUNS):
            before, locked = case.rows_written(), case.deadlocks()
            now = case.send([names, names[::-1]])
            cost += now
            if ours:
                left = [cost - case.settled_in_ledgers(cost), cost - case.followed()]
            else:
                left = [
                    cost - case.settled_in_tables(f"LiteLLM_{name}", cost)
                    for name in ("EndUserTable", "DailyEndUserSpend")
                ]
            # PostgreSQL's statistics come up to a second late.
            time.sleep(2)
            rows = Decimal(case.rows_written() - before) / int(now / PRICE)
            told = [f"{left[0]:.2f}", f"{left[1]:.2f}", str(case.deadlocks() - locked), f"{rows:.1f}"]
            for row, one in zip(found[:-1], told, strict=True):
                row.append(one)
            of_key = f", of the key {cost - case.spent_in_ledgers('key'):.2f}" if ours else ""
            print(f"{'redis-gateway' if ours else 'LiteLLM'}: {told}{of_key}", file=sys.stderr)
        cost += case.send([names[:50], names[50:100]])
        time.sleep(1)
        one, other = case.stack.proxies
        one.kill()
        other.terminate()
        other.wait()
        last = case.settled_in_ledgers(cost) if ours else case.settled_in_tables("LiteLLM_EndUserTable", cost)
        found[-1].append(f"{cost - last:.2f}")
    finally:
        case.close()
    return [", ".join(row) for row in found]


ROWS = [
    "300 at once of 150 end users, in two orders: dollars missing from their spend (#9608, #27989, #34887)",
    "The same: dollars missing from the spend of each day (#29292)",
    "The same: deadlocks in PostgreSQL (#9608, #27989)",
    "The same: rows of spend written in PostgreSQL, for each request (#31866)",
    "100 more, and a second later one replica is killed and one is ended: dollars missing (#34805, #38157)",
]


def main() -> None:
    own, gateway = run(False), run(True)
    print("| | LiteLLM's own tables | redis-gateway's ledgers |\n|---|---|---|")
    for name, one, other in zip(ROWS, own, gateway, strict=True):
        print(f"| {name} | {one} | {other} |")


if __name__ == "__main__":
    main()
