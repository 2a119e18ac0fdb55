"""A DICOMweb client that never hangs, and says in words what is wrong with the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests
from dicomweb_client import DICOMwebClient
from requests.adapters import HTTPAdapter

from ..errors import ClientError, Unreachable

TIMEOUT_S = (3.0, 60.0)  # to connect; between two pieces of an answer
PAGE = 200


class _Timely(HTTPAdapter):
    def send(self, request, **kwargs):
        kwargs["timeout"] = kwargs.get("timeout") or TIMEOUT_S
        return super().send(request, **kwargs)


class Client(DICOMwebClient):
    """As the library's, but a server may call an answer in parts something else than multipart/related."""

    def _decode_multipart_message(self, response: requests.Response, stream: bool) -> Iterator[bytes]:
        if not response.headers["content-type"].lower().startswith("multipart/related"):
            response.headers["content-type"] = "multipart/related"
        return super()._decode_multipart_message(response, stream)


def connect(url: str, username: str = "", password: str = "") -> Client:
    """A client for the server at ``url``; nothing is sent yet. One per thread: sessions are not shared.

    Raises:
        ClientError: if ``url`` is no http address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ClientError(
            f"DICOMweb server: found {url[:200]!r}; expected an address such as http://host:8042/dicom-web."
        )
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Timely())
    if username:
        session.auth = (username, password)
    client = Client(url.rstrip("/"), session=session)
    client.set_http_retry_params(retry=False)
    return client


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turn what a server can do wrong into ``Unreachable``.

    Raises:
        Unreachable: with the server's host and port, what happened and what to check.
    """
    host = urlsplit(url).netloc.rpartition("@")[2]
    try:
        yield
    except requests.HTTPError as problem:
        status = problem.response.status_code if problem.response is not None else "an error"
        check = {401: "the user name and password", 403: "what this user may do", 404: "the path of the address"}
        raise Unreachable(
            f"The DICOMweb server at {host} answered {status}; check {check.get(status, 'its log')}."
        ) from problem
    except requests.Timeout as problem:
        raise Unreachable(
            f"The DICOMweb server at {host} does not answer in time; check that it runs and is not overloaded."
        ) from problem
    except requests.ConnectionError as problem:
        raise Unreachable(
            f"The DICOMweb server at {host} cannot be reached; check that it runs, its name, port and firewall."
        ) from problem
    except (requests.RequestException, ValueError, KeyError) as problem:
        raise Unreachable(
            f"The DICOMweb server at {host} gave an answer that is not DICOMweb; check that the address ends in the "
            "path of the DICOMweb service, such as /dicom-web."
        ) from problem


def pages(search, key: str, **arguments: Any) -> list[dict]:
    """All results of a QIDO search, also from servers that give them in pages or ignore ``offset``."""
    found: dict[str, dict] = {}
    while True:
        page = search(limit=PAGE, offset=len(found), **arguments)
        before = len(found)
        for item in page:
            found.setdefault(item[key]["Value"][0], item)
        if len(found) == before:
            return list(found.values())
