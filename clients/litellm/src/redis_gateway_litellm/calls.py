"""The bookkeeping of a request: admitted once, settled once, whatever happens in between.

LiteLLM tells of a request's use in one or several events, before or after the request ends, or not at all. A call
gathers what they say. It is settled when the request has ended and its use is known; if it is not told within a while,
at what is known by then.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from redis_gateway import AsyncAdmission, AsyncAttempt, Settlement

from .accounts import Account
from .background import Background
from .estimates import Estimate, amounts
from .policies import money

__all__ = ["Call", "Calls", "Use", "current_call", "why_away"]

log = logging.getLogger("redis_gateway_litellm")

# LiteLLM runs all of a request's hooks and events in its context, or in copies of it.
context: contextvars.ContextVar[Call | None] = contextvars.ContextVar("redis_gateway_litellm_call", default=None)


@dataclass(frozen=True)
class Use:
    """What LiteLLM says that a call has used."""

    input_tokens: int
    output_tokens: int
    usd: Decimal

    def __add__(self, other: Use) -> Use:
        return Use(
            self.input_tokens + other.input_tokens, self.output_tokens + other.output_tokens, self.usd + other.usd
        )

    def __bool__(self) -> bool:
        return bool(self.output_tokens or self.usd)


NOTHING = Use(0, 0, Decimal(0))
# Calls whose provider LiteLLM asks without a word to its callbacks before. What a stream of theirs has used it tells
# when the request has ended.
DIRECT = ("pass_through_endpoint",)


def whole(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def use_of(told: Mapping[str, Any]) -> Use:
    """From what LiteLLM gives to its callbacks."""
    payload = told.get("standard_logging_object")
    payload = payload if isinstance(payload, Mapping) else {}
    if payload.get("cache_hit") is True or told.get("cache_hit") is True:
        return NOTHING  # No provider was asked.
    usage = told.get("combined_usage_object")
    # Of a failure the payload says 0, also if the provider is known to bill it.
    cost = payload.get("response_cost") or told.get("response_cost")
    inward, outward = payload.get("prompt_tokens"), payload.get("completion_tokens")
    if not whole(inward) and not whole(outward) and usage is not None and cost:
        inward, outward = getattr(usage, "prompt_tokens", 0), getattr(usage, "completion_tokens", 0)
    return Use(whole(inward), whole(outward), max(money(cost or 0), Decimal(0)))


def why_away(decision: AsyncAdmission) -> str | None:
    """Why the server has not decided, if it was away."""
    return decision.reason if decision.outcome == "degraded" or decision.status_code == 503 else None


class Call:
    """A request of a client, from its admission to its settlement."""

    def __init__(
        self,
        admission: AsyncAdmission,
        accounts: list[Account],
        estimate: Estimate,
        call_type: str,
        auth: object,
        data: Mapping[str, Any],
    ) -> None:
        self.admission = admission
        self.accounts = accounts
        self.estimate = estimate
        self.call_type = call_type
        self.auth = auth
        self.model = data.get("model")
        self.id = data.get("litellm_call_id")
        self.away = why_away(admission)
        """Why the server was away for this request. It has waited for it once, and asks it nothing more."""
        self.outer: Call | None = None
        """The request within which this one is made, such as by a guardrail."""
        self.asked = call_type in DIRECT
        """A provider was asked, or is going to be."""
        self.pieces = 0
        """Of a stream, passed on to the client."""
        self.passing = False
        """A stream is being passed on."""
        self.streams = data.get("stream") is True
        self.request_ended = False
        self.reported: Use | None = None
        """By events of success."""
        self.failed: Use | None = None
        """By the last event of failure."""
        self.headers: dict[str, str] = {}
        self.attempts: list[AsyncAttempt] = []
        """The deployments that were picked for it."""
        self.fills: dict[str, Any] = {}
        """Of the response cache, by key."""
        self.settling = False
        self.timer: asyncio.TimerHandle | None = None

    def found_away(self, why: str | None) -> None:
        """The server was away for this request, and so for those within which it is made."""
        call: Call | None = self
        while why is not None and call is not None:
            call.away = why
            call = call.outer

    def told(self, settlement: Settlement | None) -> None:
        """How the server has taken something of this request: what was kept it has not."""
        self.found_away("kept" if settlement is not None and settlement.outcome == "kept" else None)

    def is_same_request(self, call_type: str, auth: object) -> bool:
        """Whether a question is asked again for this request: before any provider is asked LiteLLM does that for each
        model to fall back to."""
        return not self.asked and not self.settling and self.call_type == call_type and self.auth is auth


def current_call(call_id: object = None) -> Call | None:
    """The call of this context; with an id the one of that id, also if it is an outer one."""
    call = context.get()
    while call is not None and call_id is not None and call.id != call_id and call.outer is not None:
        call = call.outer
    return call if call is None or call_id is None or call.id is None or call.id == call_id else None


class Calls:
    """The calls of this process that are not settled yet."""

    def __init__(
        self, unreported_after: float, ended: Callable[[Call, Use | None], None], background: Background
    ) -> None:
        """`ended` is told of each call, with what it has used: None if that is not known."""
        self._unreported_after = unreported_after
        self._ended = ended
        self._running: set[Call] = set()
        self._background = background

    def __len__(self) -> int:
        return len(self._running)

    async def give_back(self, call_type: str, auth: object) -> None:
        """Before a question: if it is asked again for the same request, since another plugin has refused it for the
        model before, then what was admitted for that one must not be in the way."""
        before = context.get()
        if before is not None and before.is_same_request(call_type, auth):
            task = self.undo(before)
            if task is not None and before.away is None:
                await asyncio.shield(task)
                before.told(before.admission.settlement)

    def away(self) -> str | None:
        """Why the server was away for an earlier question of the same request, if it was."""
        call = context.get()
        while call is not None and (call.away is None or call.request_ended):
            call = call.outer
        return call.away if call is not None else None

    def begin(self, call: Call) -> None:
        """From now on the call is settled, whatever happens."""
        self._running.add(call)
        self._attach(call)

    def refused(self, call: Call) -> None:
        """By this process, while the server is away. LiteLLM may ask again, for another model."""
        call.settling = True
        self._background.start(self._undo(call))
        self._attach(call)

    def _attach(self, call: Call) -> None:
        """To the request of this context."""
        call.outer = context.get()
        # Requests of one connection may begin in the context of the one before: those that are settled are let go.
        link = call
        while link.outer is not None:
            if link.outer.settling:
                link.outer = link.outer.outer
            else:
                link = link.outer
        call.found_away(call.away)
        context.set(call)
        task = asyncio.current_task()
        if task is not None:
            task.add_done_callback(lambda _: self.request_ended(call))

    def request_ended(self, call: Call) -> None:
        """The request's task is over: whoever asked has the answer, or has left."""
        call.request_ended = True
        if call.settling:
            return
        if not call.asked:
            self.undo(call)
        elif call.reported is not None:
            self.settle(call, call.reported)
        elif call.timer is None:
            self._wait(call)

    def _wait(self, call: Call) -> None:
        """LiteLLM reports a stream, and what a client has left, a moment after the end."""
        call.timer = asyncio.get_running_loop().call_later(self._unreported_after, self._unreported, call)

    def succeeded(self, call: Call, use: Use) -> None:
        call.asked = True
        if call.settling:
            log.warning("a use was reported after the request was settled: it is not charged")
            return
        call.reported = (call.reported or NOTHING) + use
        if call.request_ended:
            self.settle(call, call.reported)

    def attempt_failed(self, call: Call, use: Use) -> None:
        """A provider has failed. Whether another is tried is not known yet."""
        call.failed = use

    def request_failed(self, call: Call, use: Use, unseen: bool) -> None:
        """The request ends with an error. `unseen`: the provider was at work, but nobody has waited for its answer."""
        if not call.asked:
            self.undo(call)
        else:
            self.settle(call, call.reported or use or call.failed or (self._input_of(call) if unseen else NOTHING))

    def _input_of(self, call: Call) -> Use:
        return Use(call.estimate.input_tokens, 0, call.estimate.input_usd)

    def _unreported(self, call: Call) -> None:
        if call.settling:
            return
        if call.passing:
            # With keepalives before the first byte the request's task is over when the stream begins.
            self._wait(call)
        elif call.failed is not None:
            self.settle(call, call.failed)
        else:
            # Of a stream that has not begun the client has seen nothing.
            self.settle(call, self._input_of(call) if call.streams and not call.pieces else None)

    def settle(self, call: Call, use: Use | None) -> None:
        """In the background, once. None: its use is not known, and its estimates are charged."""
        self._end(call, use, self._settle(call, use))

    def undo(self, call: Call) -> asyncio.Task[object] | None:
        return self._end(call, NOTHING, self._undo(call))

    def _end(self, call: Call, use: Use | None, work: Coroutine[Any, Any, None]) -> asyncio.Task[object] | None:
        if call.settling:
            work.close()
            return None
        call.settling = True
        if call.timer is not None:
            call.timer.cancel()
        self._ended(call, use)
        self._running.discard(call)
        return self._background.start(work)

    async def _settle(self, call: Call, use: Use | None) -> None:
        try:
            if use is None:
                await call.admission.settle()
            else:
                await call.admission.settle(amounts(use.input_tokens, use.output_tokens, use.usd))
        except Exception as error:
            log.error("a request could not be settled: %s", error)

    async def _undo(self, call: Call) -> None:
        try:
            await call.admission.undo()
        except Exception as error:
            log.error("an admission could not be given back: %s", error)
