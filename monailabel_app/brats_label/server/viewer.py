"""The OHIF viewer that MONAI Label ships, with its panel patched to show errors, warnings and volumes to the user.

The packaged files stay unchanged; text is replaced as it is served. OHIF and the panel are open source (MIT and
Apache-2.0). This module contains everything that depends on the packaged text, as of MONAI Label 0.8.5 with OHIF 3.10.
With another version, ``check_viewer`` logs at start which replacements find nothing, and ``test_app_viewer.py`` names
them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response
from monailabel.utils.others.generic import get_mime_type

from ..errors import NotFound
from ..labels import prediction_of
from .authentication import AnyUser
from .pages import STATIC, no_viewer, of_files

logger = logging.getLogger("brats_clip.server")
router = APIRouter(prefix="/ohif", tags=["Others"])

FOLDER = (STATIC / "ohif").resolve()
WARNING_HEADER, VOLUMES_HEADER = "X-Warning", "X-Volumes"
_DETAIL = (
    "(() => { try { return JSON.parse(new TextDecoder().decode(response.response.data)).detail } "
    "catch { return %s } })()"
)
_POINTS = (
    "params['background'] = [];\n        for (const label in points) {\n"
    "          params[label] = points[label];\n        }"
)
# A warning stays until it is closed; OHIF's toasts have no button for that.
_NOTICE = (
    "...(() => { const header = name => decodeURIComponent(response.headers[name] || ''); "
    "const warning = header('x-warning'); "
    "const message = [warning || %s, header('x-volumes')].filter(Boolean).join(' '); "
    "if (!warning) { return { message, type: 'success', duration: 8000 } } "
    "const close = react.createElement('button', { style: { display: 'block', textDecoration: 'underline' }, "
    "onClick: () => this.notification.hide() }, 'Close'); "
    "return { message: react.createElement('div', null, message, close), type: 'warning', duration: Infinity } })()"
)
_DONE = "message: '%s - Successful',\n        type: 'success',\n        duration: 4000"


# The colours of our DICOM SEGs. The panel only knows organs, and compares names in lower case.
COLOURS = {"ncr/net": "#d8463c", "ed": "#6ebe50", "et": "#5096e6", "tc": "#d65aa0", "wt": "#ffd700"}


class Replacement(NamedTuple):
    """One change to the viewer's text: the text to find, its replacement, and the reason."""

    found: str
    becomes: str
    why: str


REPLACEMENTS: tuple[Replacement, ...] = (
    Replacement(
        "'http://' + window.location.host.split(':')[0] + ':8000/'",
        "window.location.origin + '/'",
        "the panel looks for the server at port 8000, wherever it came from",
    ),
    Replacement(
        "const GenericAnatomyColors = [{",
        "const GenericAnatomyColors = ["
        + "".join(f"{{label: '{name}', value: '{value}'}}, " for name, value in COLOURS.items())
        + "{",
        "TC and ET had nearly the same colour",
    ),
    Replacement(
        _POINTS,
        f"{_POINTS}\n        label_names = info.modelLabelNames[model];",
        "after a click only the clicked label was redrawn: a voxel that became ET stayed oedema on the screen",
    ),
    Replacement(
        "message: 'Failed to Run Segmentation'",
        f"message: {_DETAIL % repr('Failed to Run Segmentation')}",
        "the server's sentence did not reach the user",
    ),
    Replacement(
        "message: 'Failed to Run Inference for Point Prompts'",
        f"message: {_DETAIL % repr('Failed to Run Inference for Point Prompts')}",
        "the server's sentence did not reach the user",
    ),
    Replacement(
        _DONE % "Running Segmentation",
        _NOTICE % repr("Running Segmentation - Successful."),
        "a report that contradicts the image gives a warning, and the volumes are shown",
    ),
    Replacement(
        _DONE % "Running Inference for Point Prompts",
        _NOTICE % repr("Running Inference for Point Prompts - Successful."),
        "a report that contradicts the image gives a warning, and the volumes are shown",
    ),
    Replacement(
        """createElement("input", {
      id: section + name + k,
      type: "text",""",
        """createElement(k === 'report' ? 'textarea' : 'input', {
      id: section + name + k,
      rows: 6,
      type: "text",""",
        "a report has more than one line",
    ),
    Replacement(
        '"Server:"',
        '"Server: show a series, then press the round arrow to connect"',
        "nothing said that the panel stays empty until then",
    ),
)


def answer_headers(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers sent with a label map: a warning; the volumes and where the prediction is least certain."""
    warning, volumes = params.get("warning", ""), params.get("volumes_ml") or {}
    if warning and not params.get("report", {}).get("used", True):
        warning = f"The report was not used: {warning}"
    listed = ", ".join(f"{region} {volumes[region]:.1f} ml" for region in ("WT", "TC", "ET") if region in volumes)
    told = " ".join(filter(None, (f"{listed}." if listed else "", _least_sure(params))))
    headers = {WARNING_HEADER: warning, VOLUMES_HEADER: told}
    return {name: quote(text) for name, text in headers.items() if text}


def _least_sure(params: Mapping[str, Any]) -> str:
    """The region with the lowest predicted Dice, and the first place to look at; "" without a prediction."""
    found = prediction_of(params)
    expected, places = found["expected_dice"], found["look_here"]
    if not expected:
        return ""
    region = min(expected, key=expected.__getitem__)
    caveat = "" if found["quality_fitted"] else " (not fitted for these weights)"
    look = f": look at {places[0]['text']}" if places else ""
    return f"{region}: expected Dice {expected[region]:.2f}{caveat}{look}."


@lru_cache(maxsize=1)
def patched_files() -> dict[Path, bytes]:
    """Return the contents of the patched files by path."""
    texts: dict[Path, str] = {}
    for replacement in REPLACEMENTS:
        for path in _panel():
            text = texts.get(path) or path.read_text(encoding="utf-8")
            if replacement.found in text:
                texts[path] = text.replace(replacement.found, replacement.becomes)
    return {path: text.encode() for path, text in texts.items()}


def missing_replacements() -> list[Replacement]:
    """Return the replacements that find nothing to replace in the installed package."""
    texts = [path.read_text(encoding="utf-8") for path in _panel()]
    return [replacement for replacement in REPLACEMENTS if not any(replacement.found in text for text in texts)]


def check_viewer() -> None:
    """Log an error if some replacements do not fit the packaged viewer, which is served anyway."""
    missing = missing_replacements()
    if missing:
        logger.error(
            "The packaged OHIF viewer differs from the one in MONAI Label 0.8.5: %d of %d replacements find nothing "
            "to replace (%s). The viewer is served without them; correct REPLACEMENTS in %s, or install "
            "monailabel==0.8.5.",
            len(missing),
            len(REPLACEMENTS),
            "; ".join(sorted({replacement.why for replacement in missing})),
            Path(__file__).name,
        )


@lru_cache(maxsize=1)
def _panel() -> tuple[Path, ...]:
    """Return the scripts that contain MONAI Label's panel."""
    return tuple(path for path in FOLDER.glob("*.js") if b"MONAILABEL_SERVER_URL" in path.read_bytes())


@router.get("/{path:path}", include_in_schema=False)
def viewer(path: str, user: AnyUser) -> Response:
    """Return a file of the viewer, or its index page for other addresses below /ohif/."""
    file = _file(path)
    if file is None:
        if Path(path).suffix in (".js", ".css", ".wasm", ".map", ".json", ".png", ".svg", ".ico"):
            raise NotFound("The viewer has no such file.")
        file = FOLDER / "index.html"
    if file.name == "index.html" and of_files():
        return no_viewer()
    if file in patched_files():
        return Response(patched_files()[file], media_type="text/javascript")
    return FileResponse(file, media_type=get_mime_type(str(file)))


def _file(path: str) -> Path | None:
    try:
        file = (FOLDER / path).resolve()
        return file if file.is_relative_to(FOLDER) and file.is_file() else None
    except (OSError, ValueError):  # a name too long for the file system, or with a NUL in it
        return None
