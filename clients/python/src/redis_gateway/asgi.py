"""Admits the requests of an ASGI application, and settles them when their responses end."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

from ._async.admission import AsyncAdmission
from ._async.gateway import AsyncGateway
from ._commands import Amount

__all__ = ["SCOPE_KEY", "AdmissionMiddleware"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SCOPE_KEY = "redis_gateway.admission"
"""Where the application finds the admission in its scope, to tell it what was used."""


class AdmissionMiddleware:
    """Asks for each request before the application sees it.

        app = AdmissionMiddleware(app, gateway, accounts_of, {"tokens": 1500})

    `accounts` finds a request's accounts in its scope; if it returns None, the request passes without an admission.
    `estimates` are what requests will probably use, or a function of the scope. A denied request is answered here, with
    status 429, 403 or 503 and the headers that say when to come back. Others get the headers, too. They are settled
    when the application has ended, also if it raises or its client leaves; the application calls
    `scope["redis_gateway.admission"].use(...)`, or the meters keep their estimates.
    """

    def __init__(
        self,
        app: App,
        gateway: AsyncGateway,
        accounts: Callable[[Scope], Sequence[str] | None],
        estimates: Mapping[str, Amount] | Callable[[Scope], Mapping[str, Amount]] | None = None,
        *,
        require: bool = False,
        meters: Mapping[str, str] | None = None,
    ) -> None:
        self._app = app
        self._gateway = gateway
        self._accounts = accounts
        self._estimates = estimates or {}
        self._require = require
        self._meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        accounts = self._accounts(scope) if scope["type"] == "http" else None
        if not accounts:
            await self._app(scope, receive, send)
            return
        estimates = self._estimates(scope) if callable(self._estimates) else self._estimates
        async with await self._gateway.admit(accounts, estimates, require=self._require) as admission:
            headers = encoded(admission.headers(meters=self._meters))
            if not admission.ok:
                await refuse(admission, headers, send)
                return

            async def send_with_headers(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message = {**message, "headers": [*message.get("headers", []), *headers]}
                await send(message)

            await self._app({**scope, SCOPE_KEY: admission}, receive, send_with_headers)


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


async def refuse(admission: AsyncAdmission, headers: list[tuple[bytes, bytes]], send: Send) -> None:
    body = json.dumps({"error": {"type": admission.reason, "retry_after_ms": admission.retry_after_ms}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": admission.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": body})
