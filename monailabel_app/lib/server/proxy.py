"""DICOMweb for the viewer, without holding up anybody: what the server sends is passed on as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx
from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC, User

from ..errors import ClientError, Unreachable

router = APIRouter(prefix="/proxy/dicom", tags=["Others"])

# Of one connection, not for the proxy.
_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}
_PREFIXES = {"qido": "MONAI_LABEL_QIDO_PREFIX", "wado": "MONAI_LABEL_WADO_PREFIX", "stow": "MONAI_LABEL_STOW_PREFIX"}
_PLAIN = "/:@!$&'()*+,;=~"
_client: httpx.AsyncClient | None = None


@router.get("/{path:path}", include_in_schema=False)
async def look(
    request: Request, path: str, user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))
) -> StreamingResponse:
    """Pass a search or a retrieval on."""
    return await _pass_on(request, path)


@router.post("/{path:path}", include_in_schema=False)
async def store(
    request: Request, path: str, user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))
) -> StreamingResponse:
    """Pass instances on that are to be stored: what saving a label takes, this takes."""
    return await _pass_on(request, path)


async def _pass_on(request: Request, path: str) -> StreamingResponse:
    """Pass a request on to the DICOMweb server of the studies, and nowhere else."""
    server = settings.MONAI_LABEL_STUDIES.rstrip("/")
    if not server.startswith(("http://", "https://")):
        raise ClientError("The studies are files; there is no DICOMweb server to ask.", 404)
    if any(part in ("..", ".") for part in path.replace("\\", "/").split("/")):
        raise ClientError("A path with '..' in it is not passed on.")
    # It came decoded: a "?", a "#" or a "%2e%2e" in it must mean there what it meant here.
    url = f"{server}/{quote(_path(path), safe=_PLAIN)}"
    headers = {name: value for name, value in request.headers.items() if name.lower() not in (*_HOP, "authorization")}
    sent = _http().build_request(
        request.method, url, params=request.query_params.multi_items(), headers=headers, content=_body(request)
    )
    try:
        received = await _http().send(sent, stream=True, auth=_auth())
    except httpx.HTTPError as error:
        raise Unreachable(
            f"The DICOMweb server at {httpx.URL(server).host} does not answer ({type(error).__name__}); is it running?"
        ) from None
    passed = {name: value for name, value in received.headers.items() if name.lower() not in _HOP}
    return StreamingResponse(_chunks(received), status_code=received.status_code, headers=passed)


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
