import contextlib
import sys

from redis import Redis

redis = Redis(port=int(sys.argv[1]), socket_timeout=60)
done = []


def handle(job):
    if job == "bad":
        raise ValueError(job)
    done.append(job)


push(redis, "good")
push(redis, "bad")
push(redis, "behind it")
with contextlib.suppress(ValueError):
    work(redis, handle)
# The job that failed is gone.
assert done == ["good"]
assert redis.lrange("jobs", 0, -1) == [b'"behind it"']
print("ok")
