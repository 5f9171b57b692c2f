"""Stands for LiteLLM's database: `custom_auth` that finds a key's settings in a file, which a test writes."""

from __future__ import annotations

import json
import os
from pathlib import Path

from fastapi import Request
from litellm.proxy._types import UserAPIKeyAuth


async def settings_of_key(request: Request, api_key: str) -> UserAPIKeyAuth:
    keys = json.loads(Path(os.environ["TEST_KEYS"]).read_text())
    if api_key not in keys:
        raise ValueError("no such key")
    return UserAPIKeyAuth(api_key=api_key, **keys[api_key])
