"""Which deployment serves a request: the one that has room, over all replicas, by GW.ROUTE."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from litellm.types.router import CustomRoutingStrategyBase

from redis_gateway import AsyncAttempt, AsyncGateway

from .accounts import Account
from .background import Background
from .calls import Call, Use, current_call, why_away
from .estimates import Estimate, Prices, amounts, deployments, estimate, team_of
from .policies import Policy, limits
from .settings import PluginSettings
from .synchronise import Synchroniser

__all__ = ["Routing", "install_routing"]

log = logging.getLogger("redis_gateway_litellm")


class Routing(CustomRoutingStrategyBase):
    """LiteLLM asks it for a deployment: for the first try of a request, for each retry and for each fallback."""

    def __init__(
        self,
        gateway: AsyncGateway,
        background: Background,
        synchroniser: Synchroniser,
        prices: Prices,
        settings: PluginSettings,
    ) -> None:
        self._gateway = gateway
        self._background = background
        self._synchroniser = synchroniser
        self._prices = prices
        self._settings = settings

    async def async_get_available_deployment(
        self,
        model: str,
        messages: Any = None,
        input: Any = None,
        specific_deployment: bool | None = False,
        request_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        found = {identity(one): one for one in deployments(model, team_of(request_kwargs or {}))}
        if not found:
            raise no_deployment(model, None)
        call = current_call((request_kwargs or {}).get("litellm_call_id"))
        accounts = {name: self._account(name, one) for name, one in found.items()}
        # Those that have failed this request come last.
        tried = {attempt.target for attempt in call.attempts} if call is not None else set()
        keys = [one.key for one in accounts.values()]
        targets = [key for key in keys if key not in tried] or keys
        guess = call.estimate if call is not None else self._guess(model, messages, input, request_kwargs)
        pick: Any = self._settings.routing

        async def ask(away: str | None) -> AsyncAttempt:
            return await self._gateway.route(targets, guess.amounts(), pick=pick, away=away)

        before = call.away if call is not None else None
        attempt = await self._synchroniser.decided(accounts.values(), ask, before)
        if call is not None:
            call.found_away(why_away(attempt))
        if not attempt.ok:
            raise no_deployment(model, attempt)
        if call is None:
            # A call that is no client's request: nobody tells how it ends, so it is only counted.
            self._background.start(attempt.settle())
        else:
            call.attempts.append(attempt)
        return next(found[name] for name, account in accounts.items() if account.key == attempt.target)

    async def attempt_failed(self, call: Call, error: BaseException) -> None:
        """The deployment of the present attempt has raised this."""
        if not call.attempts:
            return
        attempt = call.attempts[-1]
        if blames_deployment(error):
            ending = attempt.failed(retry_after_of(error))
        else:
            attempt.unused()
            ending = attempt.settle()
        if call.away is not None:
            self._background.start(ending)
        else:
            # Before the next deployment is asked for: this one has to be known to have failed, and to be free.
            call.told(await ending)

    async def call_ended(self, call: Call, use: Use | None) -> None:
        if not call.attempts:
            return
        last = call.attempts[-1]
        if use is not None:
            last.use(amounts(use.input_tokens, use.output_tokens, use.usd))
        if call.reported is None and call.failed is not None:
            await last.failed()
        else:
            await last.settle()

    def _account(self, name: str, deployment: Mapping[str, Any]) -> Account:
        params = deployment.get("litellm_params") or {}
        policies: list[Policy] = limits(params.get("rpm"), params.get("tpm"), params.get("max_parallel_requests"))
        seconds, failures = self._settings.cooldown, self._settings.allowed_failures
        if failures > 0:
            breaker: Policy = {"name": "breaker", "kind": "breaker", "failures": failures, "per_ms": 60_000}
            policies.append({**breaker, "open_ms": max(1, round(seconds * 1000))})
        return Account(f"{{{self._settings.prefix}}}:deployment:{name}", f"deployment {name}", tuple(policies))

    def _guess(self, model: str, messages: Any, input: Any, request_kwargs: Mapping[str, Any] | None) -> Estimate:
        data = {**(request_kwargs or {}), "model": model, "messages": messages, "input": input}
        return estimate(data, "completion", self._settings.output_tokens, self._prices)

    def get_available_deployment(self, *arguments: Any, **options: Any) -> Any:
        raise NotImplementedError("redis_gateway routes LiteLLM's asynchronous calls; a proxy has no others")


def identity(deployment: Mapping[str, Any]) -> str:
    return str((deployment.get("model_info") or {}).get("id") or deployment.get("model_name"))


def blames_deployment(error: BaseException) -> bool:
    """Not of a request that is wrong: every deployment would refuse it."""
    status = getattr(error, "status_code", None)
    return not isinstance(status, int) or status in (401, 403, 404, 408, 429) or status >= 500


def retry_after_of(error: BaseException) -> float | None:
    """For how many seconds the provider wants no further call."""
    response = getattr(error, "response", None)
    for headers in (getattr(error, "litellm_response_headers", None), getattr(response, "headers", None)):
        try:
            seconds = float(headers["retry-after"]) if headers is not None else 0.0
        except (KeyError, TypeError, ValueError):
            continue
        if 0 < seconds <= 3_600:
            return seconds
    return None


def no_deployment(model: str, attempt: AsyncAttempt | None) -> Exception:
    """LiteLLM's own error, by which it tries the fallbacks, and which tells the client how long to wait."""
    from litellm.types.router import RouterRateLimitError

    wait_ms = attempt.retry_after_ms if attempt is not None else -1
    error: Exception = RouterRateLimitError(
        model=model, cooldown_time=math.ceil(max(wait_ms, 1_000) / 1000), enable_pre_call_checks=False, cooldown_list=[]
    )
    return error


def install_routing(routing: Routing) -> bool:
    from litellm.proxy import proxy_server

    router: Any = proxy_server.llm_router
    if router is None:
        log.warning("redis_gateway.routing is set, but the proxy has no model_list")
        return False
    register = getattr(router, "register_plugin", None) or router.set_custom_routing_strategy
    register(routing)
    return True
