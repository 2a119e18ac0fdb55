"""DICOMweb proxy for the viewer. It streams the DICOM server's responses, so that no other request waits.

Search terms are rewritten for servers that do not decode all percent-encoding: Orthanc does not decode %2F.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterable
from typing import Any
from urllib.parse import quote

import httpx
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from monailabel.config import settings
from pydicom.datadict import tag_for_keyword

from ..errors import ClientError, Unreachable
from .authentication import Annotator, AnyUser

router = APIRouter(prefix="/proxy/dicom", tags=["Others"])

# Hop-by-hop headers, which a proxy does not forward.
_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}
_PREFIXES = {"qido": "MONAI_LABEL_QIDO_PREFIX", "wado": "MONAI_LABEL_WADO_PREFIX", "stow": "MONAI_LABEL_STOW_PREFIX"}
_PATH_SAFE = "/:@!$&'()*+,;=~"
# Characters that RFC 3986 allows unencoded in a query, and that no server reads as a delimiter or a space.
QUERY_SAFE = "/:@!$'()*,?~"
_client: httpx.AsyncClient | None = None

Terms = Iterable[tuple[str, str]]


@router.get("/{path:path}", include_in_schema=False)
async def search_or_retrieve(request: Request, path: str, user: AnyUser) -> Response:
    """Forward a search or a retrieval."""
    return await _forward(request, path)


@router.post("/{path:path}", include_in_schema=False)
async def store(request: Request, path: str, user: Annotator) -> Response:
    """Forward instances to store. Requires the same role as saving a label."""
    return await _forward(request, path)


def query(terms: Terms) -> str:
    """Return the terms as a query string, percent-encoded only where necessary."""
    return "&".join(f"{quote(name, safe='')}={quote(value, safe=QUERY_SAFE)}" for name, value in terms)


def wildcard_query(terms: Terms) -> str | None:
    """Return the query with DICOM wildcards for characters that would be encoded; None if there are none."""
    wide = [(name, _widened(value) if _tag(name) else value) for name, value in terms]
    return query(wide) if wide != list(terms) else None


def filter_matches(found: list[dict[str, Any]], terms: Terms) -> list[dict[str, Any]]:
    """Return those results of a wildcard search that match the original terms, ignoring case."""
    patterns = {tag: _pattern(value) for name, value in terms if (tag := _tag(name)) and _widened(value) != value}
    return [one for one in found if all(_matches(one.get(tag), pattern) for tag, pattern in patterns.items())]


async def _forward(request: Request, path: str) -> Response:
    """Forward a request to the DICOMweb server of the studies, and nowhere else."""
    server = settings.MONAI_LABEL_STUDIES.rstrip("/")
    if not server.startswith(("http://", "https://")):
        raise ClientError("The studies are files; there is no DICOMweb server to ask.", 404)
    if any(part in ("..", ".") for part in path.replace("\\", "/").split("/")):
        raise ClientError("A path with '..' in it is not forwarded.")
    # The path arrives decoded. Encode it again, so that "?", "#" and "%2e%2e" in it keep their meaning.
    url = f"{server}/{quote(_path(path), safe=_PATH_SAFE)}"
    headers = {name: value for name, value in request.headers.items() if name.lower() not in (*_HOP, "authorization")}
    headers.setdefault("accept-encoding", "identity")  # else httpx asks for encodings that the client may not support
    terms = request.query_params.multi_items()
    received = await _send(request, f"{url}?{query(terms)}" if terms else url, headers)
    is_search = request.method == "GET" and path.rstrip("/").endswith(("studies", "series", "instances"))
    wider = wildcard_query(terms) if is_search else None
    if wider is not None:
        return await _search_result(request, received, f"{url}?{wider}", headers, terms)
    kept = {name: value for name, value in received.headers.items() if name.lower() not in _HOP}
    return StreamingResponse(_chunks(received), status_code=received.status_code, headers=kept)


async def _send(request: Request, url: str, headers: dict[str, str]) -> httpx.Response:
    sent = _http().build_request(request.method, url, headers=headers, content=_body(request))
    try:
        return await _http().send(sent, stream=True, auth=_auth())
    except httpx.HTTPError as error:
        raise Unreachable(
            f"The DICOMweb server at {sent.url.host} does not answer ({type(error).__name__}); is it running?"
        ) from None


async def _search_result(
    request: Request, received: httpx.Response, wider: str, headers: dict[str, str], terms: list[tuple[str, str]]
) -> Response:
    """Return the search result. If it is empty, repeat the search with wildcards and keep what matches the terms."""
    body = await _read(received)
    if received.is_success and _dicom_json(body) == []:
        second = await _send(request, wider, headers)
        found = _dicom_json(await _read(second))
        if second.is_success and found is not None:
            body = json.dumps(filter_matches(found, terms)).encode()
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


async def _chunks(received: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in received.aiter_raw():
            yield chunk
    finally:
        await received.aclose()


def _path(path: str) -> str:
    kind, _, rest = path.partition("/")
    if kind not in _PREFIXES:
        return path
    if kind == "qido" and rest.endswith("metadata"):  # some viewers request it there
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


def _dicom_json(body: bytes) -> list[dict[str, Any]] | None:
    """Parse a list of DICOM JSON objects; None if ``body`` is something else."""
    try:
        found = json.loads(body) if body.strip() else []
    except ValueError:
        return None
    return found if isinstance(found, list) and all(isinstance(one, dict) for one in found) else None


def _widened(value: str) -> str:
    """Replace an ASCII character that needs encoding by "?", others by "*": a server may count their bytes."""
    return "".join(char if quote(char, safe=QUERY_SAFE) == char else "?" if char.isascii() else "*" for char in value)


def _pattern(value: str) -> re.Pattern:
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(char) or re.escape(char) for char in value), re.IGNORECASE | re.DOTALL)


def _matches(element: Any, pattern: re.Pattern) -> bool:
    values = element.get("Value", []) if isinstance(element, dict) else []
    texts = [text for value in values for text in (value.values() if isinstance(value, dict) else [value])]
    return any(pattern.fullmatch(str(text)) for text in texts)


def _tag(name: str) -> str:
    """Return the tag, such as ``00100020``, of a keyword or a tag; "" for other parameters, such as ``limit``."""
    if re.fullmatch(r"[0-9A-Fa-f]{8}", name):
        return name.upper()
    number = tag_for_keyword(name)
    return f"{number:08X}" if number else ""
