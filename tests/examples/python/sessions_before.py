import sys

from redis import Redis

redis = Redis(port=int(sys.argv[1]), socket_timeout=60, decode_responses=True)
phone, laptop = create(redis, "ann"), create(redis, "ann")
assert load(redis, phone) == {"user": "ann", "messages": "[]"}
assert HALF_AN_HOUR_S - 60 < redis.ttl(phone) <= HALF_AN_HOUR_S

# The set keeps the names of sessions that have ended.
redis.delete(laptop)
assert redis.smembers("sessions-of:ann") == {phone, laptop}

# A session that begins while the user is logged out survives, and is in no set.
smembers, late = redis.smembers, []


def smembers_and_then(key):
    names = smembers(key)
    late.append(create(redis, "ann"))
    return names


redis.smembers = smembers_and_then
log_out_everywhere(redis, "ann")
assert load(redis, phone) == {}
assert load(redis, late[0]) == {"user": "ann", "messages": "[]"}
assert not redis.exists("sessions-of:ann")

# A change after the end makes a session that never ends.
redis.hset(phone, "messages", '["Hi"]')
assert redis.ttl(phone) == -1
print("ok")
