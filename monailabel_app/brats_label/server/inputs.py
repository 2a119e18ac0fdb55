"""Inputs of the routes: the app, JSON parameters, and uploaded files under names of our own."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request, UploadFile

from ..errors import ClientError, check_text

_SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,8}){0,2}")


def _served(request: Request) -> Any:
    return request.app.state.app


App = Annotated[Any, Depends(_served)]  # ``main.BrainTumourApp``, which nothing below ``main`` imports


def read_params(text: str | None, name: str = "params") -> dict[str, Any]:
    """Read a form field that holds a JSON object.

    Raises:
        ClientError: if ``text`` is anything else.
    """
    try:
        params = json.loads(text) if text else {}
    except ValueError as error:
        raise ClientError(f"{name}: found no JSON ({error}); expected an object.") from None
    except RecursionError:
        raise ClientError(f"{name}: found JSON nested too deep; expected an object.") from None
    if not isinstance(params, dict):
        raise ClientError(f"{name}: found a JSON {type(params).__name__}; expected an object.")
    check_text(params, name)
    return params


def save(upload: UploadFile, path: Path) -> None:
    """Write an upload to a file."""
    with path.open("wb") as file:
        shutil.copyfileobj(upload.file, file, 2**20)


@contextmanager
def received(upload: UploadFile) -> Iterator[Path]:
    """Yield the upload as a temporary file. Only the extension of the client's file name is kept."""
    name = (upload.filename or "").replace("\\", "/").rsplit("/", 1)[-1]
    known = [s for s in (".nii.gz", ".seg.nrrd") if name.lower().endswith(s)]
    suffix = known[0] if known else Path(name).suffix
    if not _SUFFIX.fullmatch(suffix):
        suffix = ""
    with tempfile.TemporaryDirectory(prefix="upload-") as folder:
        path = Path(folder) / f"upload{suffix}"
        save(upload, path)
        yield path
