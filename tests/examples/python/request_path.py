# Drives the request path in Python: prints what each request got, and how many settlements were left over.
import sys

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


def connect(port, timeout_s=60):
    return Redis(port=port, decode_responses=True, socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0))


async def model(request):
    name = request["cache_key"]
    if name == "chat:refuses":
        raise ValueError("the model refused")
    for step in range(1, 5):
        if step == 3 and name == "chat:fails":
            raise ValueError("the model failed")
        if step == 3 and name == "chat:cancelled":
            await asyncio.sleep(3600)
        if step == 3 and name == "chat:unknown":
            await admin.delete("{un}:key:7", "{un}:user:42", "{un}")
        if step == 3 and name == "chat:paused":
            await admin.execute_command("CLIENT", "PAUSE", 600_000, "WRITE")
        known = step == 4 or name == "chat:counted"
        yield f"piece{step} ", {"tokens": 100 * step, "usd": f"0.0{step}"} if known else None


class Client:
    def __init__(self, take=None):
        self.status, self.headers, self.pieces, self.take, self.two = 0, {}, [], take, asyncio.Event()

    async def start(self, status, headers):
        self.status, self.headers = status, headers

    async def send(self, piece):
        self.pieces.append(piece)
        if len(self.pieces) == 2:
            self.two.set()
        if len(self.pieces) == self.take:
            raise BrokenPipeError("the client has left")


async def run(redis, name, team="ml", take=None):
    client = Client(take)
    request = {"team": team, "key": "7", "user": "42", "tokens": 1000, "usd": "0.1", "cache_key": f"chat:{name}"}
    task = asyncio.create_task(handle(redis, request, model, client))
    if name == "cancelled":
        await client.two.wait()
        task.cancel()
    try:
        await task
    except (ValueError, BrokenPipeError, asyncio.CancelledError) as error:
        client.pieces.append(type(error).__name__)
    return [client.status, "".join(client.pieces), client.headers]


async def main():
    global admin
    port, closed_port = int(sys.argv[1]), int(sys.argv[2])
    admin, redis = connect(port), connect(port)
    answers = []
    for name, take in [("whole", None), ("whole", None), ("wrong", None), ("gone", 2), ("cancelled", None),
                       ("counted", 2), ("fails", None), ("refuses", None)]:
        answers.append(await run(redis, name, take=take))
    answers.append(await run(connect(port, timeout_s=5), "paused"))
    left = [len(unsettled)]
    await admin.execute_command("CLIENT", "UNPAUSE")
    await settle_again(redis)
    left.append(len(unsettled))
    answers.append(await run(redis, "limit"))
    answers.append(await run(redis, "unknown", team="un"))
    answers.append(await run(connect(closed_port), "dead"))
    print(json.dumps({"answers": answers, "unsettled": left}))


asyncio.run(main())
