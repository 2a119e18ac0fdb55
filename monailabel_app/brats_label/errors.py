"""Errors that are reported to a client, each with an HTTP status and a sentence."""

from __future__ import annotations

import json
import re


class ClientError(Exception):
    """A request that cannot be fulfilled, for a reason other than an error of this server.

    Args:
        sentence: what is wrong and how to correct it, for the user. It has no patient names and no report text.
        status: HTTP status, 400 to 499.
    """

    status = 400

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        if status is not None:
            self.status = status


def check_text(value: object, name: str) -> None:
    """Refuse text that cannot be encoded as UTF-8: JSON can contain half of a surrogate pair.

    Args:
        value: parsed JSON.
        name: of the value, for the error.

    Raises:
        ClientError: if any text in ``value`` cannot be encoded.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ClientError(f"{name}: found half of a surrogate pair; expected text that is Unicode.") from None


class NotFound(ClientError):
    """No such case, image, label, model, strategy or version."""

    status = 404


class Refused(ClientError):
    """A file or a value that can be read but not accepted, such as a label on another grid."""

    status = 422


class Conflict(ClientError):
    """The request conflicts with what another user is doing or has done meanwhile."""

    status = 409


class TooLarge(ClientError):
    """More bytes, characters or clicks than the server accepts."""

    status = 413


class Busy(ClientError):
    """The server already runs as many jobs as it accepts at once; try again later."""

    status = 429


class Unreachable(ClientError):
    """Another server (DICOMweb, login) does not answer; 424 because neither the client nor this server is at fault."""

    status = 424


def sentence(reason: Exception) -> str:
    """Return what went wrong, without file paths: folders can be named after patients."""
    if isinstance(getattr(reason, "sentence", None), str):  # of a ClientError
        return reason.sentence
    found, expected = getattr(reason, "found", None), getattr(reason, "expected", None)
    if found and "/" not in found and not re.search(r"(?<!\w)/", str(expected)):
        return f"found {found}; expected {expected}"
    return type(reason).__name__
