"""Which pages may ask: a browser lets any web page send requests to this machine, and name it as it likes."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from .middleware import refuse

_HOST = (
    "This server knows itself as localhost or 127.0.0.1 alone; ask for it by that name, or start it with --conf remote "
    "true."
)
_ORIGIN = "Pages of other sites may not ask this server; MONAI_LABEL_CORS_ORIGINS names those that may."


class OwnPages:
    """Refuses requests that pages of other sites make, by ``Origin`` and, against DNS rebinding, by ``Host``.

    Programs send no ``Origin``. Ports may differ: a tunnel or a proxy of this machine changes them.

    Args:
        app: what is behind.
        allowed: origins of other sites that may ask.
    """

    def __init__(self, app: ASGIApp, allowed: Iterable[str] = ()) -> None:
        self.app, self.allowed = app, frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {key: value.decode("latin-1") for key, value in scope["headers"]}
            origin = headers.get(b"origin")
            if not _names_this_machine(f"//{headers.get(b'host') or 'localhost'}"):
                await refuse(scope, send, 421, _HOST)
                return
            if origin is not None and origin not in self.allowed and not _names_this_machine(origin):
                await refuse(scope, send, 403, _ORIGIN)
                return
        await self.app(scope, receive, send)


def allow_origins(api: FastAPI, allowed: list[str]) -> None:
    """Have browsers show answers to pages of these origins, in place of MONAI Label's "all"."""
    api.user_middleware[:] = [middleware for middleware in api.user_middleware if middleware.cls is not CORSMiddleware]
    if allowed:
        ours = {"allow_origins": allowed, "allow_credentials": True, "allow_methods": ["*"], "allow_headers": ["*"]}
        api.user_middleware.append(Middleware(CORSMiddleware, **ours))


def _names_this_machine(address: str) -> bool:
    try:
        host = urlsplit(address).hostname or ""
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
