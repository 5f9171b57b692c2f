# Drives the routing guide in Python.
import sys

from redis import Redis

redis = Redis(port=int(sys.argv[1]), decode_responses=True, socket_timeout=60)
do = redis.execute_command
do("GW.POLICYSET", "{ml}", "rpm", "WINDOW", 4, "PER", 3_600_000)
do("GW.POLICYSET", "{ml}:key", "tokens", "WINDOW", 10_000, "PER", 3_600_000, "METER", "tokens")
for target in ["{gpt}:eu", "{gpt}:us", "{gpt}:asia"]:
    do("GW.POLICYSET", target, "rpm", "WINDOW", 5, "PER", 3_600_000)
    do("GW.POLICYSET", target, "up", "BREAKER", 2, "PER", 3_600_000, "OPEN", 3_600_000)
targets = ["{gpt}:eu", "{gpt}:us", "{gpt}:asia"]
accounts = ["{ml}:key", "{ml}"]
calls = []


def request(call):
    def recorded(target):
        calls.append(target)
        return call(target)

    return serve(redis, accounts, targets, {"tokens": 100}, recorded)


def described(account, field):
    return do("GW.DESCRIBE", account)[field]


def counts(account):
    return described(account, "counts")


def works(target):
    return f"answer of {target}", {"tokens": 40}


def refused(call):
    try:
        request(call)
    except Refused as error:
        return str(error), error.retry_after_ms
    raise AssertionError("served")


# The first one works.
assert request(works) == f"answer of {calls[0]}"
assert counts("{ml}:key") == {"tokens": 40}
assert described(calls[0], "latency_ms") is not None
# A provider that asks to wait: the next one serves, and the first is left alone.
calls.clear()
first = []


def busy(target):
    first.append(target)
    if len(first) == 1:
        raise CallFailed(3_600_000)
    return works(target)


assert request(busy) == f"answer of {calls[1]}"
assert len(calls) == 2 and calls[0] != calls[1]
cooled = calls[0]
assert described(cooled, "cooldown_ms") > 0
assert counts("{ml}") == {"rpm": 2}


# All fail: the two that are left are tried, and the request costs nobody anything.
def fails(target):
    raise CallFailed


calls.clear()
assert refused(fails) == ("every deployment has failed", -1)
assert sorted([*calls, cooled]) == sorted(targets)
assert counts("{ml}") == {"rpm": 2} and counts("{ml}:key") == {"tokens": 80}
# A second failure opens their breakers.
refused(fails)
calls.clear()
why, retry_after_ms = refused(works)
assert why == "no deployment" and 0 < retry_after_ms <= 3_600_000 and calls == []
assert counts("{ml}") == {"rpm": 2}
# The team's limit: the target that was picked is free again.
for target in targets:
    do("DEL", target)
    do("GW.POLICYSET", target, "flight", "INFLIGHT", 1)
request(works)
request(works)
assert refused(works)[0] == "limit"
assert [described(target, "in_flight") for target in targets] == [0, 0, 0]
print("ok")
