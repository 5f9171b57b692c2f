"""Traffic of a small gateway, for a look at the dashboards: requests of a few customers, cached answers, log records, routes.

python3 traffic.py redis://127.0.0.1:6379 [REQUESTS_PER_SECOND]

It runs until it is ended. Its keys are `{demo}:customer-1`, `rpm:customer-1`, `spend:team:customer-1`, `log:requests`,
`chat:7` and the like.
Some requests meet limits, some clients die, and some budgets run out.
"""

import itertools
import json
import random
import re
import signal
import sys
import threading
import time

import redis

CUSTOMERS = [f"customer-{number}" for number in range(1, 9)]
DEPLOYMENTS = ["{demo}:deployment-east", "{demo}:deployment-west"]


def call(server: redis.Redis, *words):
    """A command's reply; an error with a code of its own is one as well, as of a memory that is full."""
    try:
        return server.execute_command(*words)
    except redis.ResponseError as error:
        # redis-py cuts ERR off: what is left without a code is a mistake in this file.
        if not re.match(r"[A-Z]{3,} ", str(error)):
            raise
        return error


def prepare(server: redis.Redis):
    for number, customer in enumerate(CUSTOMERS, 1):
        account = f"{{demo}}:{customer}"
        server.execute_command("GW.POLICYSET", account, "day", "BUDGET", 5 * number, "DAY")
        server.execute_command("GW.POLICYSET", account, "rpm", "WINDOW", 30 * number, "PER", 60_000)
        server.execute_command("GW.POLICYSET", account, "inflight", "INFLIGHT", 8)
    for deployment in DEPLOYMENTS:
        server.execute_command("GW.POLICYSET", deployment, "rpm", "WINDOW", 400, "PER", 60_000)
        server.execute_command("GW.POLICYSET", deployment, "breaker", "BREAKER", 5, "PER", 10_000, "OPEN", 5_000)


def request(server: redis.Redis, number: int, run: str):
    # The first customers ask more often than the others.
    customer = CUSTOMERS[min(int(random.expovariate(0.5)), len(CUSTOMERS) - 1)]
    account, spend, lease = f"{{demo}}:{customer}", f"spend:team:{customer}", f"{run}-{number}"
    call(server, "GW.ALLOW", f"rpm:{customer}", 60)
    call(server, "GW.TOKENS", f"tpm:{customer}", 20_000, 40_000, "COST", random.randint(50, 2_000))
    embedding = f"embed:{random.randint(1, 200)}"
    if call(server, "GW.CACHEGET", embedding) is None:
        call(server, "GW.CACHESET", embedding, "0.1 " * 300, "SAVED", 0.0001, "EX", 60)
    admitted, *_ = call(server, "GW.ADMIT", account, "LEASE", lease, "TTL", 30_000, "usd", 0.02, "ROWS", "NONE")
    if admitted:
        answer(server, number)
        call(server, "GW.SETTLE", account, "LEASE", lease, "usd", round(random.uniform(0.001, 0.03), 4))
    routed, target, *_ = call(server, "GW.ROUTE", DEPLOYMENTS[0], "WITH", 1, DEPLOYMENTS[1], "LEASE", lease, "TTL", 30_000)
    if routed:
        failed = ["FAILED"] if number % 20 == 0 else []
        call(server, "GW.SETTLE", target, "LEASE", lease, *failed, "TOOK", random.randint(200, 3_000))
    call(server, "GW.ADDCOST", spend, round(random.uniform(0.001, 0.03), 4))
    call(server, "GW.LOGPUSH", "log:requests", "RECORDS", json.dumps({"customer": customer, "number": number}))
    if number % 10 == 0:
        call(server, "GW.ACQUIRE", f"inflight:{customer}", 3, lease, "TTL", 2_000)
        granted, *_ = call(server, "GW.RESERVE", spend, 0.01, 1_000, "DAY", "ID", lease, "TTL", 60_000)
        if granted:
            call(server, "GW.COMMIT", spend, lease, 0.009)


def answer(server: redis.Redis, number: int):
    """An answer out of the cache, or computed by the one client that gets the fill lease. Some die before they have it."""
    key = f"chat:{random.randint(1, 60)}"
    _, _, _, _, token = call(server, "GW.CACHEFETCH", key, "LEASE", 2_000)
    if token and number % 4:
        text = "An answer. " * random.randint(20, 400)
        call(server, "GW.CACHESET", key, text, "EX", 20, "SAVED", 0.01, "TOKEN", token)


def main():
    url, per_second = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 20.0
    server = redis.Redis.from_url(url, retry_on_error=[redis.ConnectionError])
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    run = f"run-{time.time_ns()}"
    is_prepared = False
    for number in itertools.count():
        try:
            if not is_prepared:
                prepare(server)
                is_prepared = True
            request(server, number, run)
        except redis.ConnectionError as error:
            print(f"the server is away: {error}", file=sys.stderr)
            ended.wait(1)
        if ended.wait(1 / per_second):
            break


if __name__ == "__main__":
    main()
