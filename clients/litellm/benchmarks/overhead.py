"""What the limits add to a request: none, LiteLLM's own limiter, and redis-gateway, in turns in one run.

    GW_MODULE=libredis_gateway.so python benchmarks/overhead.py

One proxy each, with the same provider, keys and requests, and a server of its own. They take turns, so that a machine
with much else to do slows down all of them alike. Needs what the tests need. Prints a table.
"""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

from replay import OWN, calls  # isort: skip  # It finds the tests' modules.

from proxies import Stack
from traffic import exact_body, in_turns

ROUNDS, REQUESTS = 15, 20
LIMITS = {
    "rpm_limit": 10**6,
    "tpm_limit": 10**9,
    "max_parallel_requests": 100,
    "user_id": "u",
    "user_rpm_limit": 10**6,
    "team_id": "t",
    "team_rpm_limit": 10**6,
    "team_tpm_limit": 10**9,
}


@dataclass
class Measured:
    name: str
    stack: Stack
    key: str
    took: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    commands: int = 0

    def round(self) -> None:
        cpu, commands = cpu_of(self.stack), calls(self.stack)
        self.took += in_turns(self.stack, self.key, REQUESTS, exact_body(), workers=1).took
        time.sleep(1)  # What is settled and counted afterwards belongs to it.
        self.cpu_s += cpu_of(self.stack) - cpu
        self.commands += calls(self.stack) - commands

    def row(self) -> str:
        count = len(self.took)
        figures = [statistics.median(self.took), statistics.quantiles(self.took, n=20)[-1], self.cpu_s / count]
        times = " | ".join(f"{seconds * 1000:.1f} ms" for seconds in figures)
        return f"| {self.name} | {times} | {self.commands / count:.1f} |"


def cpu_of(stack: Stack) -> float:
    """Seconds that the proxy has computed, of user and system time."""
    words = Path(f"/proc/{stack.proxies[0].pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    own = Stack(**OWN)
    ours = Stack()
    try:
        all_of_them = [
            Measured("no limits", own, own.key("none")),
            Measured("LiteLLM's own limiter", own, own.key("limits", **LIMITS)),
            Measured("redis-gateway", ours, ours.key("limits", **LIMITS)),
        ]
        for one in all_of_them:
            in_turns(one.stack, one.key, REQUESTS, exact_body(), workers=1)
        for _ in range(ROUNDS):
            for one in all_of_them:
                one.round()
    finally:
        own.close()
        ours.close()
    print(
        "| A request of a key, a user and a team | median | 95th percentile | the proxy computes | commands in Redis |"
    )
    print("|---|---|---|---|---|")
    for one in all_of_them:
        print(one.row())


if __name__ == "__main__":
    main()
