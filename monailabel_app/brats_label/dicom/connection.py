"""The connection to one DICOMweb server, which all threads share."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from .client import Client, connect, reaching
from .outage import Outage


class Connection:
    """A client per thread, and what all of them know of the server. Safe to use from several threads.

    Args:
        url: of the DICOMweb service, such as http://127.0.0.1:8042/dicom-web.
        username, password: for basic authentication, if any.

    Attributes:
        outage: whether the server kept somebody waiting in vain.
        heard: when it last said something, or was first asked, on the clock of ``time.monotonic``.

    Raises:
        ClientError: if ``url`` is no address. Nothing is asked of the server yet.
    """

    def __init__(self, url: str, username: str = "", password: str = "") -> None:
        self.url, self._login = url, (username, password)
        connect(url, username, password)
        self._local = threading.local()
        self.outage, self.heard = Outage(), float("-inf")

    @property
    def client(self) -> Client:
        """This thread's client."""
        if not hasattr(self._local, "client"):
            self._local.client = connect(self.url, *self._login)
        return self._local.client

    @property
    def host(self) -> str:
        """Host and port of the server, for people; without a login that the address may hold."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    def hear(self) -> None:
        """Note that the server said something just now."""
        self.heard = time.monotonic()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around requests to the server.

        Raises:
            Unreachable: if it does not answer, or kept somebody else waiting in vain some seconds ago.
        """
        self.outage.check()
        with self.outage.noting(), reaching(self.url):
            yield
