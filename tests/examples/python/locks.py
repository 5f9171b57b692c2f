import sqlite3
import sys
import time

from redis import Redis

redis = Redis(port=int(sys.argv[1]), socket_timeout=60)
stored, tokens = [], []


def store(part, token):
    stored.append(part)
    tokens.append(token)


# locks-python-use

assert stored == ["users", "teams"] and tokens[0] > 0

# Held by one at a time, and free afterwards.
with lock(redis, "lock:export") as (token, check):
    assert token > tokens[0]
    with lock(redis, "lock:export") as (other, _):
        assert other is None
    check()
with lock(redis, "lock:export") as (later, _):
    assert later > token

# Renewed for longer than its time, and then lost.
with lock(redis, "lock:short", ttl_ms=3_000) as (token, check):
    end = time.monotonic() + 4
    while time.monotonic() < end:
        check()
        time.sleep(0.05)
    redis.delete("lock:short")
    try:
        while True:
            check()
            time.sleep(0.05)
    except LockLost:
        pass

FENCING = """
# locks-fencing
"""
database = sqlite3.connect(":memory:")
database.execute("CREATE TABLE export (name TEXT, content TEXT, token INTEGER)")
for token, changed in [(6, 1), (7, 1), (8, 0)]:
    database.execute("DELETE FROM export")
    database.execute("INSERT INTO export VALUES ('users', 'old', ?)", (token,))
    assert database.execute(FENCING).rowcount == changed, token
print("ok")
