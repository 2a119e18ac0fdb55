"""Around every request: an id and a line in the log, a limit on its size, and who may ask at all."""

from __future__ import annotations

import ipaddress
import json
import logging
import re
import time
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("brats_clip.requests")

_SESSION = re.compile(r"/session/(?P<id>.+)")
_SESSION_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class RequestLog:
    """One JSON line per request: what, how long, how it ended. Query strings stay out: they may name patients."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        number, started, status = uuid4().hex[:12], time.perf_counter(), 500
        scope.setdefault("state", {})["request_id"] = number

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", []).append((b"x-request-id", number.encode()))
            await send(message)

        try:
            await self.app(scope, receive, note)
        finally:
            # The route's pattern, not the path, in which clients put ids.
            route = getattr(scope.get("route"), "path", None) or _beginning(scope["path"])
            line = {
                "id": number,
                "method": scope["method"],
                "route": route,
                "status": status,
                "ms": round(1000 * (time.perf_counter() - started), 1),
            }
            logger.info("%s", json.dumps(line))


class SizeLimit:
    """Turns away bodies of more than ``limit`` bytes, whether they say so first or not."""

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
        seen, begun, refused = 0, False, False

        async def count() -> Message:
            nonlocal seen, refused
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.limit and not begun:
                refused = True
                await self._refuse(scope, send)
                return {"type": "http.disconnect"}
            return message

        async def pass_on(message: Message) -> None:
            nonlocal begun
            begun = True
            if not refused:
                await send(message)

        try:
            await self.app(scope, count, pass_on)
        except Exception:
            if not refused:
                raise

    async def _refuse(self, scope: Scope, send: Send) -> None:
        sentence = f"The upload is larger than {self.limit // 2**20} MiB; raise --conf max_upload_mb to allow it."
        await refuse(scope, send, 413, sentence)


class Doorkeeper:
    """Answers this machine alone unless told otherwise, and knows what a session's id looks like.

    MONAI Label binds to all interfaces by default, and joins a session's id to a path.
    """

    def __init__(self, app: ASGIApp, remote: bool) -> None:
        self.app, self.remote = app, remote

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if not self.remote and not _is_local(scope.get("client")):
            sentence = "This server answers its own machine alone; start it with --conf remote true to change that."
            await refuse(scope, send, 403, sentence)
            return
        session = _SESSION.fullmatch(scope["path"])
        if session and not is_session_id(session["id"]):
            await refuse(scope, send, 404, "No such session; its id is the one that creating it returned.")
            return
        await self.app(scope, receive, send)


def _beginning(path: str) -> str:
    """What a request was about that did not get to a route: ``/infer``, say, and nothing that could be a name."""
    first = path.split("/")[1:2]
    return f"/{first[0]}" if first and re.fullmatch(r"[a-z]{0,16}", first[0]) else "?"


def is_session_id(text: str) -> bool:
    """Whether this can be a session's id; MONAI Label joins it to a path."""
    return bool(_SESSION_ID.fullmatch(text.lower()))


def _is_local(client: tuple[str, int] | None) -> bool:
    if client is None:  # a Unix socket
        return True
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return client[0] in ("localhost", "testclient")
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


async def refuse(scope: Scope, send: Send, status: int, sentence: str) -> None:
    """Answer with a sentence, as ``problems.answer`` does."""
    number = scope.get("state", {}).get("request_id", "")
    body = json.dumps({"detail": sentence, "status": status, "request_id": number}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
