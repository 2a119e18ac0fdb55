"""HTML pages (front page, log), which load nothing from the internet, and the app's metadata as JSON."""

from __future__ import annotations

import subprocess
from collections import deque
from html import escape
from pathlib import Path
from typing import Any

import monailabel.endpoints
from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from monailabel.config import RBAC_ADMIN, RBAC_USER, settings

from ..errors import ClientError, NotFound
from .authentication import Admin, AnyUser
from .inputs import App

router = APIRouter(tags=["Others"])

STATIC = Path(monailabel.endpoints.__file__).parent / "static"
NO_VIEWER = (
    "The studies of this server are files, but OHIF, the viewer in the browser, reads DICOMweb servers only. Use 3D "
    "Slicer with this server's address, serve a DICOMweb server (make serve STUDIES=http://...), or try OHIF with "
    "synthetic patients (make serve-demo)."
)
MOST_LINES = 100_000
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">{head}
<title>{title}</title>
<style>body {{ font: 16px/1.5 sans-serif; max-width: 44em; margin: 2em auto; padding: 0 1em }}
code {{ background: #eee; padding: 0 .3em }} dt {{ font-weight: bold }} dd {{ margin: 0 0 .8em 1.5em }}</style>
</head><body><h1>{title}</h1>
{body}
</body></html>
"""


@router.get("/", include_in_schema=False)
def front(app: App, request: Request) -> HTMLResponse:
    """Return the front page. It shows no data if authentication is on."""
    address = str(request.base_url).rstrip("/")
    lines = [] if settings.MONAI_LABEL_AUTH_ENABLE else list(_served(app))
    viewer = "" if of_files() else '<a href="ohif/">Open the viewer</a>: choose a study, then MONAI Label.'
    lines += [
        ("In the browser (OHIF)", viewer or escape(NO_VIEWER)),
        ("Review", f"{_link('review/')}: which case to correct next, who has it, and how good the rest should be."),
        ("In 3D Slicer", f"Module <i>MONAI Label</i>, server <code>{escape(address)}</code>, then <i>Next Sample</i>."),
        ("For programs", f"{_link('info/')}, and {_link('openapi.json')} with all requests (OpenAPI)."),
    ]
    body = "\n".join(f"<dt>{escape(name)}</dt><dd>{text}</dd>" for name, text in lines)
    return _page("Brain tumour segmentation with report and clicks", f"<dl>\n{body}\n</dl>")


@router.get("/info/", summary=f"{RBAC_USER}Models, strategies, trainers and cases", tags=["App"])
def info(app: App, user: AnyUser) -> dict[str, Any]:
    """Return the app's metadata, which clients request first."""
    return app.info()


@router.get("/logs/", summary=f"{RBAC_ADMIN}The server's log")
def log(user: Admin, lines: int = 300, html: bool = True, text: bool = False, refresh: int = 0) -> Response:
    """Return the last ``lines`` (0: the whole file), as text or as a page that reloads after ``refresh`` seconds."""
    path = Path(settings.MONAI_LABEL_APP_DIR) / "logs" / "app.log"
    if not path.is_file():
        raise NotFound("The server writes no log file; its terminal has the log.")
    if lines <= 0:
        return Response(path.read_bytes(), media_type="text/plain")  # a FileResponse breaks off if the file grows
    with path.open(encoding="utf-8", errors="replace") as file:
        content = "".join(deque(file, min(lines, MOST_LINES)))
    if text or not html:
        return PlainTextResponse(content)
    again = f'<meta http-equiv="refresh" content="{max(refresh, 3)}">' if refresh > 0 else ""
    return _page("Log", f"<pre>{escape(content)}</pre>", again)


@router.get("/logs/gpu", summary=f"{RBAC_ADMIN}Output of nvidia-smi")
def gpu(user: Admin) -> PlainTextResponse:
    """Return the output of ``nvidia-smi``."""
    try:
        done = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        raise NotFound("This machine has no GPU that nvidia-smi knows.") from None
    return PlainTextResponse(done.stdout)


@router.get("/favicon.ico", include_in_schema=False)
def icon() -> FileResponse:
    """MONAI Label's icon."""
    return FileResponse(STATIC / "favicon.ico", media_type="image/x-icon")


@router.api_route("/scoring/{method:path}", methods=["GET", "POST", "DELETE"], include_in_schema=False)
def scoring(user: AnyUser, method: str) -> None:
    """Refuse. The app has no scoring methods, and MONAI Label's own route would start it a second time."""
    raise NotFound("Nothing is scored on request: each answer predicts its quality, and GET /review/ lists the cases.")


def no_viewer() -> HTMLResponse:
    """Return the page shown instead of OHIF, which would only report that its data source is missing."""
    return _page("No viewer here", f'<p>{escape(NO_VIEWER)}</p>\n<p><a href="/">What this server serves</a></p>')


def of_files(studies: str | None = None) -> bool:
    """Return whether the studies are files rather than on a DICOMweb server."""
    studies = settings.MONAI_LABEL_STUDIES if studies is None else studies
    return bool(studies) and not studies.startswith(("http://", "https://"))


def what_is_served(app: Any) -> str:
    """Describe the served studies and their number of cases in a sentence."""
    kind = "the folder" if of_files(app.studies) else "the DICOMweb server"
    try:
        count = len(app.datastore().list_images())
    except ClientError as error:
        return f"{kind} {app.studies}: {error.sentence}"
    served = f"{count} case{'s' * (count != 1)} of {kind} {app.studies}"
    return served if count else f"{served}. make doctor STUDIES=... says what cases look like."


def _served(app: Any) -> list[tuple[str, str]]:
    models = ", ".join(f"<code>{escape(name)}</code> ({escape(task.type.value)})" for name, task in app._infers.items())
    return [
        ("Served", escape(what_is_served(app))),
        ("Models", models),
        ("Weights", escape(app.models.name_in_use())),
    ]


def _link(path: str) -> str:
    return f'<a href="{path}">/{path}</a>'


def _page(title: str, body: str, head: str = "") -> HTMLResponse:
    return HTMLResponse(
        _PAGE.format(title=escape(title), body=body, head=head),
        headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
    )
