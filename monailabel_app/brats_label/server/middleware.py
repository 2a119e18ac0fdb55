"""Middleware: request IDs and request log, a limit on the body size, and filters for clients, hosts and origins."""

from __future__ import annotations

import ipaddress
import json
import logging
import re
import time
from collections.abc import Iterable
from urllib.parse import urlsplit
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("brats_clip.requests")

_HOST = (
    "This server answers requests to localhost or 127.0.0.1 only; use one of these names, or start it with --conf "
    "remote true."
)
_ORIGIN = "Requests from pages of other sites are refused; MONAI_LABEL_CORS_ORIGINS lists the sites that are allowed."
_CLIENT = "This server accepts requests from its own machine only; start it with --conf remote true to change that."


class RequestLog:
    """Log one JSON line per request: route, status and duration. Query strings are left out: they may name patients."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id, started, status = uuid4().hex[:12], time.perf_counter(), 500
        scope.setdefault("state", {})["request_id"] = request_id

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", []).append((b"x-request-id", request_id.encode()))
            await send(message)

        try:
            await self.app(scope, receive, note)
        finally:
            # The route's pattern, not the path: paths contain IDs.
            route = getattr(scope.get("route"), "path", None) or _first_part(scope["path"])
            line = {
                "id": request_id,
                "method": scope["method"],
                "route": route,
                "status": status,
                "ms": round(1000 * (time.perf_counter() - started), 1),
            }
            logger.info("%s", json.dumps(line))


class SizeLimit:
    """Refuse request bodies of more than ``limit`` bytes, with or without a Content-Length header."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self.limit:
            await self._refuse(scope, send)
            return
        received, responding, refused = 0, False, False

        async def count() -> Message:
            nonlocal received, refused
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit and not responding:
                refused = True
                await self._refuse(scope, send)
                return {"type": "http.disconnect"}
            return message

        async def respond(message: Message) -> None:
            nonlocal responding
            responding = True
            if not refused:
                await send(message)

        try:
            await self.app(scope, count, respond)
        except Exception:
            if not refused:
                raise

    async def _refuse(self, scope: Scope, send: Send) -> None:
        sentence = f"The upload is larger than {self.limit // 2**20} MiB; raise --conf max_upload_mb to allow it."
        await refuse(scope, send, 413, sentence)


class ClientFilter:
    """Refuse clients on other machines unless ``remote``; MONAI Label binds to all interfaces by default."""

    def __init__(self, app: ASGIApp, remote: bool) -> None:
        self.app, self.remote = app, remote

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self.remote and not _is_local(scope.get("client")):
            await refuse(scope, send, 403, _CLIENT)
            return
        await self.app(scope, receive, send)


class AllowedHosts:
    """Refuse requests from pages of other sites, by ``Origin`` and, against DNS rebinding, by ``Host``.

    Requests without ``Origin`` come from programs and pass. Ports are ignored: a local tunnel or proxy changes them.
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


async def refuse(scope: Scope, send: Send, status: int, sentence: str) -> None:
    """Send an error response with the same body as those of the error handlers."""
    request_id = scope.get("state", {}).get("request_id", "")
    body = json.dumps({"detail": sentence, "status": status, "request_id": request_id}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _first_part(path: str) -> str:
    """Return the first part of a path without a route, such as ``/infer``; "?" if it could be a name."""
    first = path.split("/")[1:2]
    return f"/{first[0]}" if first and re.fullmatch(r"[a-z]{0,16}", first[0]) else "?"


def _is_local(client: tuple[str, int] | None) -> bool:
    if client is None:  # a Unix socket
        return True
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return client[0] in ("localhost", "testclient")
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


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
