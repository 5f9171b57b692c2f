"""Streams that are cancelled, raise, or whose client leaves, at random moments: each is settled exactly once.

What it is to be cancelled is in _runtime.py: for a task it is `cancel`, and for a thread an exception that comes from
outside while it waits, such as KeyboardInterrupt, SystemExit, or that of a worker's time-out."""

from __future__ import annotations

import json
import os
import random
from decimal import Decimal
from typing import Any

from servers import Server

from ._runtime import broken_off, gateway_on, interruptible, sleep, together, until

RUNS = int(os.environ.get("GW_INTERLEAVINGS", "1000"))
AT_ONCE = 25


class ModelFailed(Exception):
    pass


class ClientLeft(Exception):
    pass


async def model(dice: random.Random, pieces: int) -> Any:
    fails_at = dice.randrange(-4, pieces + 1)
    for at in range(pieces):
        await sleep(dice.random() * 0.003)
        if at == fails_at:
            raise ModelFailed
        # The usage is known at the end, or never.
        yield {"usd": "0.01"} if at == pieces - 1 else {}


async def nothing() -> Any:
    for never in ():
        yield never


async def request(gateway: Any, dice: random.Random, ids: list[str]) -> None:
    leaves_at = dice.randrange(0, 8)
    admission = await gateway.admit(["{a}", "{a}:key"], {"usd": "1"}, rows="NONE")
    ids.append(admission.lease_id)
    stream = admission.stream(model(dice, dice.randrange(1, 5)), lambda piece: piece)
    if dice.random() < 0.2:
        # Nobody ends them, whether the stream was begun or not: they are left to the garbage collector.
        del admission
        async for _ in stream if leaves_at else nothing():
            break
        return
    async with admission:
        at = 0
        async for _ in stream:
            at += 1
            if at == leaves_at:
                raise ClientLeft
            await sleep(dice.random() * 0.002)


async def test_each_is_settled_exactly_once(server: Server) -> None:
    seed = int(os.environ.get("GW_SEED", random.randrange(1 << 32)))
    dice = random.Random(seed)
    for key in ("{a}", "{a}:key"):
        server.run(f"GW.POLICYSET {key} month BUDGET 1000000 MONTH")
        server.run(f"GW.POLICYSET {key} all WINDOW 1000000 PER 3600000")
        server.run(f"GW.POLICYSET {key} parallel INFLIGHT 100000")
    server.run("CONFIG RESETSTAT")
    ids: list[str] = []

    def settled() -> int:
        return sum(count for name, count in gateway.figures().items() if name.startswith("settlements{"))

    async with gateway_on(server.port) as gateway:
        interruptible(gateway)
        for _ in range(RUNS // AT_ONCE):
            works = []
            for _ in range(AT_ONCE):
                own = random.Random(dice.randrange(1 << 32))
                works.append(lambda own=own: broken_off(own, request, gateway, own, ids))
            await together(*works)
        # What was cancelled while it was asked for is given back in the background.
        await gateway._core.tasks.finish(10)
        await gateway.send_kept()
        await until(lambda: settled() >= len(ids))
        await gateway.send_kept()
        figures = gateway.figures()
    assert settled() == len(ids), f"GW_SEED={seed} {figures}"
    for key in ("{a}", "{a}:key"):
        flat = server.run(f"GW.DESCRIBE {key}")
        state = json.loads(json.dumps(flat))
        assert state[state.index("in_flight") + 1] == 0, f"GW_SEED={seed}: {state}"
        assert state[state.index("leases") + 1] == [], f"GW_SEED={seed}: {state}"
        spent = Decimal(str(server.run(f"GW.SPENT {key}")))
        # Each charged nothing, what was used, or its estimate.
        assert 0 < spent <= len(ids), f"GW_SEED={seed}"
    # A second settlement of any of them changes nothing.
    replies = {str(server.run(f"GW.SETTLE {{a}} WITH 1 {{a}}:key LEASE {lease} usd 5")) for lease in ids[-300:]}
    assert replies == {"REPEATED"}, f"GW_SEED={seed}"
