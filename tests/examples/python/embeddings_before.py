import sys

from redis import Redis

redis = Redis(port=int(sys.argv[1]), socket_timeout=60)
asked = []


def provider(text):
    asked.append(text)
    return [float(len(text)), 0.5]


assert [embed(redis, provider, text) for text in ("cat", "horse", "cat")] == [[3.0, 0.5], [5.0, 0.5], [3.0, 0.5]]
assert asked == ["cat", "horse"]

# Twice the limit within 0.2 seconds, around the full minute.
before = [allowed(redis, 100, 42 * 60 - 0.1) for _ in range(101)]
after = [allowed(redis, 100, 42 * 60 + 0.1) for _ in range(101)]
assert before == after == [True] * 100 + [False]
assert redis.get("provider:41") == redis.get("provider:42") == b"101"

# The key does not know the model: a vector of the old one is found by the new one.
assert embed(redis, lambda text: [0.0] * 3, "cat") == [3.0, 0.5]
print("ok")
