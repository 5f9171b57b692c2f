"""A provider that answers as OpenAI and Anthropic do, and fails as it is told.

What it does is told in the address: `http://127.0.0.1:PORT/<behaviour>/v1`. Each answer has used `PROMPT` tokens of
input and `COMPLETION` of output.

    ok            answers, with usage
    silent        streams without usage
    fails         500
    busy          429, with Retry-After
    refuses       400
    breaks        closes the connection in the middle of a stream
    cuts          closes it before the first piece of a stream
    waits         streams two pieces, or nothing, and goes on when `/release` is called
    waits-first   waits before the first piece
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

PROMPT = 10
COMPLETION = 20
BATCH_MODEL = "gpt-4o-mini"
"""One whose price LiteLLM knows."""
NUMBERS = itertools.count(1)
"""Of its answers: LiteLLM's database has one row for each id."""
WORDS = ("one ", "two ", "three ", "four")
Events = AsyncIterator[tuple[str, "dict[str, Any] | str"]]


class Provider:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.running = 0
        self.most = 0
        self.released = asyncio.Event()

    async def seen(self, _: web.Request) -> web.Response:
        return web.json_response({"calls": self.calls, "running": self.running, "most": self.most})

    async def release(self, _: web.Request) -> web.Response:
        self.released.set()
        return web.Response()

    async def reset(self, _: web.Request) -> web.Response:
        self.calls, self.most = [], 0
        self.released = asyncio.Event()
        return web.Response()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        behaviour, path = request.match_info["behaviour"], request.match_info["path"]
        self.calls.append(f"{behaviour} {path}")
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self._answer(request, behaviour, path)
        finally:
            self.running -= 1

    async def _answer(self, request: web.Request, behaviour: str, path: str) -> web.StreamResponse:
        if path.startswith(("files", "batches")):
            await request.read()
            if path.endswith("/content"):
                return web.json_response(batch_line())
            ended = path.startswith("batches/")
            return web.json_response(batch(ended) if path.startswith("batches") else a_file())
        body = await request.json()
        problem = {"fails": (500, "server_error"), "busy": (429, "rate_limit_error"), "refuses": (400, "bad")}
        if behaviour in problem:
            status, kind = problem[behaviour]
            headers = {"Retry-After": "1"} if status == 429 else {}
            error = {"type": kind, "message": f"the provider {behaviour}", "code": None, "param": None}
            return web.json_response({"type": "error", "error": error}, status=status, headers=headers)
        if path == "embeddings":
            return web.json_response(embedding(body))
        if behaviour == "waits-first" or (behaviour == "waits" and not body.get("stream")):
            await self.released.wait()
        events = {"chat/completions": chat, "messages": messages, "responses": responses}[path]
        if not body.get("stream"):
            return web.json_response(whole(path, body))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        pieces = 0
        async for name, data in events(body, behaviour):
            if name == "piece":
                pieces += 1
                if (behaviour, pieces) in (("breaks", 3), ("cuts", 1)):
                    assert request.transport is not None
                    request.transport.close()
                    return response
                if behaviour == "waits" and pieces == 3:
                    await self.released.wait()
            text = data if isinstance(data, str) else json.dumps(data)
            event = f"event: {data['type']}\n" if isinstance(data, dict) and "type" in data else ""
            await response.write(f"{event}data: {text}\n\n".encode())
            await asyncio.sleep(0)
        await response.write_eof()
        return response


def usage_of_chat() -> dict[str, int]:
    return {"prompt_tokens": PROMPT, "completion_tokens": COMPLETION, "total_tokens": PROMPT + COMPLETION}


def usage_of_messages() -> dict[str, int]:
    return {"input_tokens": PROMPT, "output_tokens": COMPLETION}


def usage_of_responses() -> dict[str, int]:
    return {**usage_of_messages(), "total_tokens": PROMPT + COMPLETION}


def whole(path: str, body: dict[str, Any]) -> dict[str, Any]:
    text = "".join(WORDS)
    if path == "messages":
        return {
            "id": f"msg_{next(NUMBERS)}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": usage_of_messages(),
        }
    if path == "responses":
        return response_object(body, text)
    return {
        "id": f"chatcmpl-{next(NUMBERS)}",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": usage_of_chat(),
    }


def response_object(body: dict[str, Any], text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": body["model"],
        "output": [item],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage_of_responses(),
    }


def embedding(body: dict[str, Any]) -> dict[str, Any]:
    usage = {"prompt_tokens": PROMPT, "total_tokens": PROMPT}
    data = [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}]
    return {"object": "list", "model": body["model"], "data": data, "usage": usage}


def batch(ended: bool) -> dict[str, Any]:
    more = {"status": "completed", "output_file_id": "file-2"} if ended else {"status": "validating"}
    return {
        **more,
        "id": "batch_1",
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "file-1",
        "completion_window": "24h",
        "created_at": 1,
    }


def batch_line() -> dict[str, Any]:
    """The only line of a batch's output."""
    body = whole("chat/completions", {"model": BATCH_MODEL})
    return {"id": "r", "custom_id": "1", "response": {"status_code": 200, "body": body}, "error": None}


def a_file() -> dict[str, Any]:
    return {
        "id": "file-1",
        "object": "file",
        "bytes": 1,
        "created_at": 1,
        "filename": "a.jsonl",
        "purpose": "batch",
        "status": "processed",
    }


async def chat(body: dict[str, Any], behaviour: str) -> Events:
    base = {"id": f"chatcmpl-{next(NUMBERS)}", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
    for word in WORDS:
        delta = {"role": "assistant", "content": word}
        yield "piece", {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield "end", {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    if behaviour != "silent" and (body.get("stream_options") or {}).get("include_usage"):
        yield "usage", {**base, "choices": [], "usage": usage_of_chat()}
    yield "end", "[DONE]"


async def messages(body: dict[str, Any], behaviour: str) -> Events:
    begun = {**whole("messages", body), "content": [], "stop_reason": None}
    begun["usage"] = {"input_tokens": PROMPT, "output_tokens": 1}
    yield "begin", {"type": "message_start", "message": begun}
    yield "begin", {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    for word in WORDS:
        delta = {"type": "text_delta", "text": word}
        yield "piece", {"type": "content_block_delta", "index": 0, "delta": delta}
    yield "end", {"type": "content_block_stop", "index": 0}
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    yield "end", {"type": "message_delta", "delta": ended, "usage": {"output_tokens": COMPLETION}}
    yield "end", {"type": "message_stop"}


async def responses(body: dict[str, Any], behaviour: str) -> Events:
    empty = {**response_object(body, ""), "status": "in_progress", "output": [], "usage": None}
    yield "begin", {"type": "response.created", "sequence_number": 0, "response": empty}
    for number, word in enumerate(WORDS, 1):
        yield (
            "piece",
            {
                "type": "response.output_text.delta",
                "sequence_number": number,
                "item_id": "msg_1",
                "output_index": 0,
                "content_index": 0,
                "delta": word,
            },
        )
    whole_one = response_object(body, "".join(WORDS))
    yield "end", {"type": "response.completed", "sequence_number": 9, "response": whole_one}


def application() -> web.Application:
    provider = Provider()
    made = web.Application(client_max_size=2**24)
    made.router.add_get("/seen", provider.seen)
    made.router.add_post("/release", provider.release)
    made.router.add_post("/reset", provider.reset)
    made.router.add_route("*", "/{behaviour}/v1/{path:.+}", provider.answer)
    return made


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--port", type=int, required=True)
    web.run_app(application(), host="127.0.0.1", port=arguments.parse_args().port, print=None)
