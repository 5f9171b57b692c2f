import sys

from redis import Redis

redis = Redis(port=int(sys.argv[1]), socket_timeout=60)
assert export(redis, lambda: None)
working = []


def first():
    assert not export(redis, lambda: None)
    # It takes longer than the lock lives.
    redis.delete("lock:export")
    working.append("second")
    assert redis.set("lock:export", 1, nx=True, ex=30)


def third():
    working.append("third")


# The first one's DEL frees the second one's lock, and a third one gets in beside that.
assert export(redis, first)
assert export(redis, third)
assert working == ["second", "third"]
print("ok")
