"""What a client did that cannot be done, with the status and the sentence it gets back."""

from __future__ import annotations

import json
import re


class ClientError(Exception):
    """A request that cannot be answered, through no fault of the server.

    Args:
        sentence: what is wrong and what would help, for the person at the client. No patient names, no report text.
        status: HTTP status, 400 to 499.
    """

    status = 400

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        if status is not None:
            self.status = status


def check_text(value: object, name: str) -> None:
    """Refuse what cannot be written down: half of a surrogate pair, which JSON can spell.

    Args:
        value: as JSON was read; may hold texts.
        name: of the value, for the sentence.

    Raises:
        ClientError: if so.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ClientError(f"{name}: found half of a surrogate pair; expected text that is Unicode.") from None


class NotFound(ClientError):
    """No such case, image, label, model, strategy or version."""

    status = 404


class Refused(ClientError):
    """A file or a value that was understood and cannot be accepted: a label on another grid, say."""

    status = 422


class Conflict(ClientError):
    """What is asked for contradicts what somebody else is doing or has done meanwhile."""

    status = 409


class TooLarge(ClientError):
    """More bytes, characters or clicks than the server takes."""

    status = 413


class Busy(ClientError):
    """As many jobs as the server takes at once are running; try again later."""

    status = 429


class Unreachable(ClientError):
    """A DICOMweb server that does not answer: neither the client's fault nor ours, and 424 says so."""

    status = 424


def sentence(reason: Exception) -> str:
    """What went wrong, without the name of a file: folders can be named after patients."""
    if isinstance(getattr(reason, "sentence", None), str):  # a ClientError's
        return reason.sentence
    found, expected = getattr(reason, "found", None), getattr(reason, "expected", None)
    if found and "/" not in found and not re.search(r"(?<!\w)/", str(expected)):
        return f"found {found}; expected {expected}"
    return type(reason).__name__
