"""Who asks: a key with three requests a minute, and a dollar a day."""

from fastapi import Request
from litellm.proxy._types import UserAPIKeyAuth


async def who(request: Request, api_key: str) -> UserAPIKeyAuth:
    return UserAPIKeyAuth(api_key=api_key, rpm_limit=3, max_budget=1.0, budget_duration="1d", team_id="research")
