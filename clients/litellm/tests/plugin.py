"""Another plugin of the proxy, which refuses what says so, after redis-gateway has admitted it; and a subclass."""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy.common_utils.proxy_rate_limit_error import ProxyRateLimitError

from redis_gateway_litellm import GatewayLogger


class Refuses(CustomLogger):
    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> None:
        text = str(data.get("messages"))
        if "not allowed" in text:
            raise HTTPException(400, "the plugin refuses")
        if "too much" in text and data["model"] == "ok":
            raise ProxyRateLimitError({"error": "the plugin refuses this model"})


refuses = Refuses()


class Gateway(GatewayLogger):
    """Changes nothing. LiteLLM looks for some hooks in it alone."""


gateway = Gateway()
