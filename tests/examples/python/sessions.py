import sys

from redis import Redis

redis = Redis(port=int(sys.argv[1]), socket_timeout=60)
one, other = create(redis, 42, {"messages": []}), create(redis, 42, {})
theirs = create(redis, 43, {})
redis.expire(one, 60)
assert load(redis, one) == {"messages": []}
assert 1_700 < redis.ttl(one) <= TTL_S
save(redis, one, 42, {"messages": ["Hello"]})
assert load(redis, one) == {"messages": ["Hello"]}
assert log_out(redis, 42) == 2
assert load(redis, one) is None and load(redis, other) is None and load(redis, theirs) == {}
print("ok")
