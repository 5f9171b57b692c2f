"""LiteLLM's callback: what LiteLLM calls, and in which order, is told in the README."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from typing import Any

import redis.asyncio
from litellm.integrations.custom_logger import CustomLogger

from redis_gateway import AsyncAdmission, AsyncGateway

from .accounts import accounts_of
from .away import LocalLimits
from .background import Background
from .batches import Batches, cost_of_batch
from .cache import ResponseCache, install_cache
from .calls import Call, Calls, Use, current_call, use_of
from .estimates import Prices, estimate
from .metrics import tell_metrics
from .own_limits import attend_to_own_limits, warn_of_unread
from .owners import Duration, Owners
from .records import Records
from .refusals import headers_of, local_refusal, refusal
from .routing import Routing, install_routing
from .settings import PluginSettings, credentials_of, read_settings
from .synchronise import Synchroniser

__all__ = ["GatewayLogger"]

log = logging.getLogger("redis_gateway_litellm")

# Calls that ask no model. What is not known here is admitted and charged.
FREE = ("aget_", "alist_", "adelete_", "acancel_", "aretrieve_", "afile_", "aupdate_", "acreate_file", "aupload_")
# Hooks that LiteLLM looks up in the class itself.
LOOKED_UP = (
    "async_pre_call_hook",
    "async_post_call_response_headers_hook",
    "async_post_call_streaming_iterator_hook",
)
TOKEN_METERS = {"input": "input_tokens", "output": "output_tokens"}


class Running:
    """What there is of this plugin in a process, from the first request on."""

    def __init__(self, settings: PluginSettings) -> None:
        self.settings = settings
        options = credentials_of(os.environ, settings.url)
        kind: Any = redis.asyncio.RedisCluster if settings.cluster else redis.asyncio.Redis
        self.gateway = AsyncGateway(kind.from_url(settings.url, **options), settings.for_client())
        self.synchroniser = Synchroniser(self.gateway, present_spend=settings.present_spend)
        self.batches = Batches(self.gateway, settings.prefix)
        self.background = Background()
        self.calls = Calls(settings.unreported_after, self._ended, self.background)
        self.prices = Prices()
        self.durations: dict[tuple[str, str], Duration] = {}
        """Of users, teams, organisations and end users, as LiteLLM has told them last."""
        self.cache: ResponseCache | None = None
        if settings.cache:
            cache = ResponseCache(
                self.gateway,
                self.background,
                settings.prefix,
                ttl=settings.cache_ttl,
                lease=settings.cache_lease,
                wait=settings.cache_wait,
            )
            self.cache = cache if install_cache(cache) else None
        self.routing: Routing | None = None
        if settings.routing:
            routing = Routing(self.gateway, self.background, self.synchroniser, self.prices, settings)
            self.routing = routing if install_routing(routing) else None
        self.records = Records(self.gateway, settings.log_queue) if settings.log_queue else None
        self.local = LocalLimits(settings.instances, settings.local_rpm) if settings.away == "local" else None
        attend_to_own_limits(settings.own_limiter == "replace")

    def _ended(self, call: Call, use: Use | None) -> None:
        if self.local is not None and call.admission.outcome == "degraded":
            self.local.free(call.accounts, call.admission.lease_id)
        if self.cache is not None:
            self.cache.call_ended(call, failed=call.reported is None)
        if self.records is not None:
            self.records.call_ended(call, use)
        if self.routing is not None:
            self.background.start(self.routing.call_ended(call, use))


class GatewayLogger(CustomLogger):
    """Name it in `litellm_settings.callbacks` as `redis_gateway_litellm.gateway`, or an object of a subclass."""

    def __init_subclass__(cls, **options: Any) -> None:
        """LiteLLM looks for some of the hooks in the class itself, not in its bases: it would ask a subclass without
        them nothing."""
        super().__init_subclass__(**options)
        for name in LOOKED_UP:
            if name not in vars(cls):
                setattr(cls, name, getattr(cls, name))

    def __init__(self, settings: PluginSettings | None = None) -> None:
        super().__init__()
        self._settings = settings
        self._running: Running | None = None

    @property
    def running(self) -> Running:
        if self._running is None:
            import litellm

            settings = self._settings or read_settings(getattr(litellm, "redis_gateway", None))
            self._running = Running(settings)
        return self._running

    # Before.

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> None:
        """Admits the request, or refuses it."""
        if call_type.startswith(FREE):
            return
        running = self.running
        settings = running.settings
        if settings.own_limiter == "replace":
            warn_of_unread(user_api_key_dict)
        meter = token_meter()
        accounts = accounts_of(
            user_api_key_dict,
            data,
            settings.prefix,
            token_meter=meter,
            owners=owners_of(cache, running.durations),
            book_end_users=books_end_users(),
        )
        if not accounts:
            return
        guess = estimate(data, call_type, settings.output_tokens, running.prices)
        await running.calls.give_back(call_type, user_api_key_dict)
        keys = [account.key for account in accounts]

        async def ask(away: str | None) -> AsyncAdmission:
            return await running.gateway.admit(keys, guess.amounts(), require=True, away=away)

        admission = await running.synchroniser.decided(accounts, ask, running.calls.away())
        headers = headers_of(admission, meter)
        model = data["model"] if isinstance(data.get("model"), str) else None
        if not admission.ok:
            raise refusal(admission, accounts, headers, model)
        call = Call(admission, accounts, guess, call_type, user_api_key_dict, data)
        call.headers = headers
        if admission.outcome == "degraded" and running.local is not None:
            refused = running.local.take(accounts, guess.amounts(), admission.lease_id)
            if refused:
                running.calls.refused(call)
                raise local_refusal(refused, model)
        running.calls.begin(call)

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> None:
        """A provider is going to be asked: by the first try, a retry or a fallback."""
        call = current_call(kwargs.get("litellm_call_id"))
        if call is not None:
            call.asked = True

    async def async_post_call_failure_deployment_hook(
        self, request_data: Mapping[str, Any], exception: Exception, call_type: Any, fallback_depth: int | None = None
    ) -> None:
        call = current_call(request_data.get("litellm_call_id"))
        if call is not None and self.running.routing is not None:
            await self.running.routing.attempt_failed(call, exception)

    # Events: what was used.

    async def async_logging_hook(
        self, kwargs: dict[str, Any], result: Any, call_type: str
    ) -> tuple[dict[str, Any], Any]:
        """Before the events of all callbacks, also of those that make metrics."""
        call = current_call(kwargs.get("litellm_call_id"))
        if call is not None:
            tell_metrics(call, kwargs)
        return kwargs, result

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        call = current_call(kwargs.get("litellm_call_id"))
        if call is not None:
            self.running.calls.succeeded(call, use_of(kwargs))
        cost = cost_of_batch(kwargs, response_obj, self.running.settings.prefix)
        if cost is not None:
            await self.running.batches.charge(cost)

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        call = current_call(kwargs.get("litellm_call_id"))
        if call is not None:
            self.running.calls.attempt_failed(call, use_of(kwargs))

    # Ends.

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None:
        """The request ends with an error: a provider's, after all retries and fallbacks; another plugin's; or the
        client has left."""
        call = current_call(request_data.get("litellm_call_id"))
        if call is None:
            return
        # Whoever has left, or has waited too long, has not seen what the provider did.
        unseen = getattr(original_exception, "status_code", None) in (408, 499)
        self.running.calls.request_failed(call, use_of(request_data), unseen)

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: AsyncIterable[Any], request_data: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        call = current_call(request_data.get("litellm_call_id"))
        if call is None:
            async for piece in response:
                yield piece
            return
        call.passing = True
        try:
            async for piece in response:
                call.pieces += 1
                yield piece
        finally:
            call.passing = False

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,
        response: Any,
        request_headers: dict[str, str] | None = None,
        litellm_call_info: dict[str, Any] | None = None,
    ) -> dict[str, str] | None:
        """What is left of the limits, as it was when the request was admitted."""
        call = current_call(data.get("litellm_call_id"))
        return dict(call.headers) if call is not None else None


def owners_of(cache: Any, known: dict[tuple[str, str], Duration]) -> Owners:
    from litellm.proxy import proxy_server

    database, custom_auth = proxy_server.prisma_client, proxy_server.user_custom_auth
    return Owners(cache, known, database=database is not None, custom_auth=custom_auth is not None)


def books_end_users() -> bool:
    """Whether LiteLLM books the spend of all end users that its clients name, also of those without limits."""
    import litellm
    from litellm.proxy import proxy_server

    return proxy_server.prisma_client is not None and not litellm.disable_end_user_cost_tracking


def token_meter() -> str:
    """What LiteLLM's `token_rate_limit_type` counts."""
    from litellm.proxy import proxy_server

    kind = (proxy_server.general_settings or {}).get("token_rate_limit_type", "total")
    return TOKEN_METERS.get(kind, "tokens")
