"""DICOMweb for the viewer, without holding up anybody: what the server sends is passed on as it comes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC, User

from ..errors import ClientError, Unreachable
from . import qido_query

router = APIRouter(prefix="/proxy/dicom", tags=["Others"])

# Of one connection, not for the proxy.
_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}
_PREFIXES = {"qido": "MONAI_LABEL_QIDO_PREFIX", "wado": "MONAI_LABEL_WADO_PREFIX", "stow": "MONAI_LABEL_STOW_PREFIX"}
_PLAIN = "/:@!$&'()*+,;=~"
_client: httpx.AsyncClient | None = None


@router.get("/{path:path}", include_in_schema=False)
async def look(
    request: Request, path: str, user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))
) -> Response:
    """Pass a search or a retrieval on."""
    return await _pass_on(request, path)


@router.post("/{path:path}", include_in_schema=False)
async def store(
    request: Request, path: str, user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))
) -> Response:
    """Pass instances on that are to be stored: what saving a label takes, this takes."""
    return await _pass_on(request, path)


async def _pass_on(request: Request, path: str) -> Response:
    """Pass a request on to the DICOMweb server of the studies, and nowhere else."""
    server = settings.MONAI_LABEL_STUDIES.rstrip("/")
    if not server.startswith(("http://", "https://")):
        raise ClientError("The studies are files; there is no DICOMweb server to ask.", 404)
    if any(part in ("..", ".") for part in path.replace("\\", "/").split("/")):
        raise ClientError("A path with '..' in it is not passed on.")
    # It came decoded: a "?", a "#" or a "%2e%2e" in it must mean there what it meant here.
    url = f"{server}/{quote(_path(path), safe=_PLAIN)}"
    headers = {name: value for name, value in request.headers.items() if name.lower() not in (*_HOP, "authorization")}
    headers.setdefault("accept-encoding", "identity")  # else httpx asks for what the client may not read
    terms = request.query_params.multi_items()
    received = await _send(request, f"{url}?{qido_query.query(terms)}" if terms else url, headers)
    searched = request.method == "GET" and path.rstrip("/").endswith(("studies", "series", "instances"))
    wider = qido_query.loose(terms) if searched else None
    if wider is not None:
        return await _searched(request, received, f"{url}?{wider}", headers, terms)
    passed = {name: value for name, value in received.headers.items() if name.lower() not in _HOP}
    return StreamingResponse(_chunks(received), status_code=received.status_code, headers=passed)


async def _send(request: Request, url: str, headers: dict[str, str]) -> httpx.Response:
    sent = _http().build_request(request.method, url, headers=headers, content=_body(request))
    try:
        return await _http().send(sent, stream=True, auth=_auth())
    except httpx.HTTPError as error:
        raise Unreachable(
            f"The DICOMweb server at {sent.url.host} does not answer ({type(error).__name__}); is it running?"
        ) from None


async def _searched(
    request: Request, received: httpx.Response, wider: str, headers: dict[str, str], terms: list[tuple[str, str]]
) -> Response:
    """The answer to a search; where it found nothing, what a wider one finds that the terms mean, too."""
    body = await _read(received)
    if received.is_success and qido_query.read(body) == []:
        second = await _send(request, wider, headers)
        found = qido_query.read(await _read(second))
        if second.is_success and found is not None:
            body = json.dumps(qido_query.strictly(found, terms)).encode()
            return Response(body, media_type="application/dicom+json")
    kept = {name: value for name, value in received.headers.items() if name.lower() not in (*_HOP, "content-encoding")}
    return Response(body, status_code=received.status_code, headers=kept)


async def _read(received: httpx.Response) -> bytes:
    try:
        return await received.aread()
    except httpx.HTTPError as error:
        raise Unreachable(f"The DICOMweb server broke off its answer ({type(error).__name__}).") from None
    finally:
        await received.aclose()


def _path(path: str) -> str:
    kind, _, rest = path.partition("/")
    if kind not in _PREFIXES:
        return path
    if kind == "qido" and rest.endswith("metadata"):  # some viewers ask for it there
        kind = "wado"
    prefix = getattr(settings, _PREFIXES[kind])
    return f"{prefix}/{rest}" if prefix else rest


def _http() -> httpx.AsyncClient:
    global _client
    if _client is None:
        timeout = httpx.Timeout(settings.MONAI_LABEL_DICOMWEB_PROXY_TIMEOUT, connect=5.0)
        _client = httpx.AsyncClient(timeout=timeout, trust_env=False)
    return _client


def _auth() -> tuple[str, str] | None:
    user, password = settings.MONAI_LABEL_DICOMWEB_USERNAME, settings.MONAI_LABEL_DICOMWEB_PASSWORD
    return (user, password) if user and password else None


def _body(request: Request) -> AsyncIterator[bytes] | None:
    return request.stream() if request.method == "POST" else None


async def _chunks(received: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in received.aiter_raw():
            yield chunk
    finally:
        await received.aclose()
