"""The OHIF viewer that MONAI Label brings, with its panel mended where it keeps an answer from the person.

The files of the package stay as they are; what is changed is changed on the way out. OHIF and the panel are open source
(MIT and Apache-2.0).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import monailabel.endpoints.ohif
from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse, Response
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.utils.others.generic import get_mime_type

from ..errors import NotFound
from .front_page import no_viewer, of_files

logger = logging.getLogger("brats_clip.server")
router = APIRouter(prefix="/ohif", tags=["Others"])

FOLDER = (Path(monailabel.endpoints.ohif.__file__).parent / "static" / "ohif").resolve()
WARNING_HEADER, VOLUMES_HEADER = "X-Warning", "X-Volumes"
_SAID = (
    "(() => { try { return JSON.parse(new TextDecoder().decode(response.response.data)).detail } "
    "catch { return %s } })()"
)
_POINTS = (
    "params['background'] = [];\n        for (const label in points) {\n"
    "          params[label] = points[label];\n        }"
)
# A warning stays until it is closed; OHIF's toasts have no button for that.
_TOLD = (
    "...(() => { const told = name => decodeURIComponent(response.headers[name] || ''); "
    "const warning = told('x-warning'); "
    "const message = [warning || %s, told('x-volumes')].filter(Boolean).join(' '); "
    "if (!warning) { return { message, type: 'success', duration: 8000 } } "
    "const close = react.createElement('button', { style: { display: 'block', textDecoration: 'underline' }, "
    "onClick: () => this.notification.hide() }, 'Close'); "
    "return { message: react.createElement('div', null, message, close), type: 'warning', duration: Infinity } })()"
)
_DONE = "message: '%s - Successful',\n        type: 'success',\n        duration: 4000"


# As in a DICOM SEG; the panel knows organs alone, and compares in lower case.
COLOURS = {"ncr/net": "#d8463c", "ed": "#6ebe50", "et": "#5096e6", "tc": "#d65aa0", "wt": "#ffd700"}


class Mend(NamedTuple):
    """One change to the viewer: what is there, what it becomes, and why."""

    found: str
    becomes: str
    why: str


MENDS: tuple[Mend, ...] = (
    Mend(
        "'http://' + window.location.host.split(':')[0] + ':8000/'",
        "window.location.origin + '/'",
        "the panel looks for the server at port 8000, wherever it came from",
    ),
    Mend(
        "const GenericAnatomyColors = [{",
        "const GenericAnatomyColors = ["
        + "".join(f"{{label: '{name}', value: '{value}'}}, " for name, value in COLOURS.items())
        + "{",
        "TC and ET had nearly the same colour",
    ),
    Mend(
        _POINTS,
        f"{_POINTS}\n        label_names = info.modelLabelNames[model];",
        "after a click only the clicked label was redrawn: a voxel that became ET stayed oedema on the screen",
    ),
    Mend(
        "message: 'Failed to Run Segmentation'",
        f"message: {_SAID % repr('Failed to Run Segmentation')}",
        "the server's sentence did not reach the person",
    ),
    Mend(
        "message: 'Failed to Run Inference for Point Prompts'",
        f"message: {_SAID % repr('Failed to Run Inference for Point Prompts')}",
        "the server's sentence did not reach the person",
    ),
    Mend(
        _DONE % "Running Segmentation",
        _TOLD % repr("Running Segmentation - Successful."),
        "a report that contradicts the image is warned of, and the volumes are told",
    ),
    Mend(
        _DONE % "Running Inference for Point Prompts",
        _TOLD % repr("Running Inference for Point Prompts - Successful."),
        "a report that contradicts the image is warned of, and the volumes are told",
    ),
    Mend(
        """createElement("input", {
      id: section + name + k,
      type: "text",""",
        """createElement(k === 'report' ? 'textarea' : 'input', {
      id: section + name + k,
      rows: 6,
      type: "text",""",
        "a report has more than one line",
    ),
    Mend(
        '"Server:"',
        '"Server: show a series, then press the round arrow to connect"',
        "nothing said that the panel stays empty until then",
    ),
)


def answer_headers(params: Mapping[str, Any]) -> dict[str, str]:
    """What travels beside a label map, for a person: a warning if there is one, and the volumes."""
    warning, volumes = params.get("warning", ""), params.get("volumes_ml") or {}
    if warning and not params.get("report", {}).get("used", True):
        warning = f"The report was not used: {warning}"
    told = ", ".join(f"{region} {volumes[region]:.1f} ml" for region in ("WT", "TC", "ET") if region in volumes)
    headers = {WARNING_HEADER: warning, VOLUMES_HEADER: f"{told}." if told else ""}
    return {name: quote(text) for name, text in headers.items() if text}


@lru_cache(maxsize=1)
def mended() -> dict[Path, bytes]:
    """The files that differ from the package's, by path. A change that finds nothing to change is logged."""
    texts: dict[Path, str] = {}
    for mend in MENDS:
        hits = 0
        for path in _panel():
            text = texts.get(path) or path.read_text(encoding="utf-8")
            if mend.found in text:
                texts[path], hits = text.replace(mend.found, mend.becomes), hits + 1
        if not hits:
            logger.warning("the viewer is another version; not mended: %s", mend.why)
    return {path: text.encode() for path, text in texts.items()}


@lru_cache(maxsize=1)
def _panel() -> tuple[Path, ...]:
    """The scripts that hold MONAI Label's panel."""
    return tuple(path for path in FOLDER.glob("*.js") if b"MONAILABEL_SERVER_URL" in path.read_bytes())


@router.get("/{path:path}", include_in_schema=False)
def viewer(path: str, user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))) -> Response:
    """A file of the viewer; every other address below /ohif/ is one of its pages."""
    file = _file(path)
    if file is None:
        if Path(path).suffix in (".js", ".css", ".wasm", ".map", ".json", ".png", ".svg", ".ico"):
            raise NotFound("The viewer has no such file.")
        file = FOLDER / "index.html"
    if file.name == "index.html" and of_files():
        return no_viewer()
    if file in mended():
        return Response(mended()[file], media_type="text/javascript")
    return FileResponse(file, media_type=get_mime_type(str(file)))


def _file(path: str) -> Path | None:
    try:
        file = (FOLDER / path).resolve()
        return file if file.is_relative_to(FOLDER) and file.is_file() else None
    except (OSError, ValueError):  # a name too long for the file system, or with a NUL in it
        return None
