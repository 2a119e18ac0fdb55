"""A DICOMweb client with timeouts, the connection that threads share, and errors that say what to check."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import requests
from dicomweb_client import DICOMwebClient
from requests.adapters import HTTPAdapter

from ..errors import ClientError, Unreachable

TIMEOUT_S = (3.0, 60.0)  # to connect; between two parts of a response
PAGE = 200
REMEMBER_S = 5.0  # how long requests fail at once after a failure
SLOW_S = 1.0  # faster failures, such as a refused connection, do not count: nobody waits for them
# Statuses of servers that do not support deletion by DICOMweb, an optional part of the standard.
_NOT_OFFERED = (400, 401, 403, 404, 405, 501)


class _Timely(HTTPAdapter):
    def send(self, request, **kwargs):
        kwargs["timeout"] = kwargs.get("timeout") or TIMEOUT_S
        return super().send(request, **kwargs)


class Client(DICOMwebClient):
    """The library's client, but it accepts multipart responses with a content type other than multipart/related."""

    def _decode_multipart_message(self, response: requests.Response, stream: bool) -> Iterator[bytes]:
        if not response.headers["content-type"].lower().startswith("multipart/related"):
            response.headers["content-type"] = "multipart/related"
        return super()._decode_multipart_message(response, stream)


def connect(url: str, username: str = "", password: str = "") -> Client:
    """Create a client for the server at ``url``; no request is sent yet. One per thread: sessions are not shared.

    Raises:
        ClientError: if ``url`` is not an http address.
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
def as_unreachable(url: str) -> Iterator[None]:
    """Convert all failures of requests to a server into ``Unreachable``.

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
    """Return all results of a QIDO search, also from servers that return pages or ignore ``offset``."""
    found: dict[str, dict] = {}
    while True:
        page = search(limit=PAGE, offset=len(found), **arguments)
        before = len(found)
        for item in page:
            found.setdefault(item[key]["Value"][0], item)
        if len(found) == before:
            return list(found.values())


class CircuitBreaker:
    """Fail at once for some seconds after a request to the server failed slowly. Safe to use from several threads."""

    def __init__(self) -> None:
        self._last: tuple[float, str] | None = None

    def check(self, since: float | None = None) -> None:
        """Raise the recent failure of another caller.

        Args:
            since: earliest time of the failure (``time.monotonic``); some seconds ago if not given.

        Raises:
            Unreachable: if there was a failure, and the server has not answered after it.
        """
        last = self._last
        if last is not None and last[0] >= (time.monotonic() - REMEMBER_S if since is None else since):
            raise Unreachable(last[1])

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record a slow failure of the block; success closes the circuit again."""
        begun = time.monotonic()
        try:
            yield
        except (Unreachable, requests.Timeout, requests.ConnectionError) as problem:
            says = (
                problem.sentence if isinstance(problem, Unreachable) else "The DICOMweb server does not answer in time."
            )
            if time.monotonic() - begun >= SLOW_S:
                self._last = time.monotonic(), says
            raise
        self._last = None


class Connection:
    """A client per thread, and what all of them know about the server. Safe to use from several threads.

    Args:
        url: of the DICOMweb service, such as http://127.0.0.1:8042/dicom-web.
        username, password: for basic authentication, if any.

    Attributes:
        breaker: remembers for some seconds that the server did not answer.
        last_answer: when it last answered, or a query began (``time.monotonic``).

    Raises:
        ClientError: if ``url`` is not an http address. No request is sent yet.
    """

    def __init__(self, url: str, username: str = "", password: str = "") -> None:
        self.url, self._login = url, (username, password)
        connect(url, username, password)
        self._local = threading.local()
        self.breaker, self.last_answer = CircuitBreaker(), float("-inf")

    @property
    def client(self) -> Client:
        """This thread's client."""
        if not hasattr(self._local, "client"):
            self._local.client = connect(self.url, *self._login)
        return self._local.client

    @property
    def host(self) -> str:
        """Host and port of the server, for messages; without credentials that the address may contain."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    def note_answer(self) -> None:
        """Record that the server answered just now."""
        self.last_answer = time.monotonic()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Wrap requests to the server.

        Raises:
            Unreachable: if the server does not answer, or failed another caller some seconds ago.
        """
        self.breaker.check()
        with self.breaker.recording(), as_unreachable(self.url):
            yield


def delete_series(client: Client, study: str, series: str) -> bool:
    """Delete a series by DICOMweb, or by Orthanc's own REST API.

    Returns:
        Whether the series is gone; False if the server does not support deletion.

    Raises:
        Unreachable: if the server does not answer.
    """
    with as_unreachable(client.base_url):
        if not client.search_for_series(study, search_filters={"SeriesInstanceUID": series}):
            return True
        try:
            client.delete_series(study, series)
            return True
        except requests.HTTPError as problem:
            if problem.response is None or problem.response.status_code not in _NOT_OFFERED:
                raise
        return _by_orthanc(client, series)


def _by_orthanc(client: Client, series: str) -> bool:
    """Delete by Orthanc's REST API, one path level up: its DICOMweb plugin does not support deletion."""
    root, session = client.base_url.rstrip("/").rpartition("/")[0], client._session
    found = session.post(f"{root}/tools/lookup", data=series)
    with suppress(ValueError, TypeError, KeyError):
        paths = [item["Path"] for item in found.json() if item["Type"] == "Series"]
        return bool(paths) and all(session.delete(f"{root}{path}").ok for path in paths)
    return False
