# Drives the ASGI adapter as a server would: one request that is answered whole, one whose client leaves.
import sys

from redis.asyncio import Redis


async def model(request):
    for step in range(1, 4):
        if step == 3 and request["cache_key"] == "chat:left":
            await asyncio.sleep(3600)
        yield f"piece{step} ", {"tokens": 300, "usd": "0.03"} if step == 3 else None


async def run(redis, name):
    left, sent = asyncio.Event(), []

    async def receive():
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)
        if name == "left" and len(sent) == 3:
            left.set()

    request = {"team": "ml", "key": "7", "user": "42", "tokens": 1000, "usd": "0.1", "cache_key": f"chat:{name}"}
    await respond(redis, request, model, receive, send)
    assert sent[0]["type"] == "http.response.start" and sent[0]["status"] == 200
    assert ("more_body" not in sent[-1]) == (name == "whole")
    return b"".join(message["body"] for message in sent[1:]).decode()


async def main():
    redis = Redis(port=int(sys.argv[1]), decode_responses=True, socket_timeout=60)
    print(json.dumps([await run(redis, "whole"), await run(redis, "left")]))


asyncio.run(main())
