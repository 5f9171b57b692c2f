import sys

from redis import Redis

redis = Redis(port=int(sys.argv[1]), socket_timeout=60)
asked = []


def model(texts):
    asked.extend(texts)
    return [[len(text), 0.5] for text in texts]


def lists(vectors):
    return [list(vector) for vector in vectors]


assert lists(embed(redis, model, "small", ["a", "bb", "a"], price="0.001")) == [[1, 0.5], [2, 0.5], [1, 0.5]]
assert lists(embed(redis, model, "small", ["bb", "ccc"])) == [[2, 0.5], [3, 0.5]]
assert asked == ["a", "bb", "ccc"], asked
assert embed(redis, model, "small", []) == []
stats = redis.execute_command("GW.CACHESTATS", "CATEGORY", "embed")
stats = stats if isinstance(stats, dict) else dict(zip(stats[::2], stats[1::2]))
assert stats[b"saved"] == b"0.001" and stats[b"hits"] == 1, stats
assert redis.execute_command("GW.CACHECLEAR", "TAG", "model:small") == 3
# Without Redis, all are made.
assert lists(embed(Redis(port=1), model, "small", ["a"])) == [[1, 0.5]]
print("ok")
