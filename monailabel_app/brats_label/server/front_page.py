"""What a person sees who opens the server's address: what is served, and what to do next. Works without internet."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from monailabel.config import settings
from monailabel.interfaces.utils.app import app_instance

from ..doctor.finding import counted
from ..errors import ClientError

router = APIRouter(tags=["Others"])

NO_VIEWER = (
    "This server serves files, and the browser's viewer OHIF reads DICOMweb servers alone. Use 3D Slicer with this "
    "server's address; or serve a DICOMweb server (make serve STUDIES=http://...); or see it with synthetic patients "
    "(make serve-demo)."
)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body {{ font: 16px/1.5 sans-serif; max-width: 44em; margin: 2em auto; padding: 0 1em }}
code {{ background: #eee; padding: 0 .3em }} dt {{ font-weight: bold }} dd {{ margin: 0 0 .8em 1.5em }}</style>
</head><body><h1>{title}</h1>
{body}
</body></html>
"""


@router.get("/", include_in_schema=False)
def front(request: Request) -> HTMLResponse:
    """The page at the server's address. Where people log in, it tells no more than how to."""
    address = str(request.base_url).rstrip("/")
    lines = [] if settings.MONAI_LABEL_AUTH_ENABLE else list(_served(app_instance()))
    viewer = "" if of_files() else '<a href="ohif/">Open the viewer</a>: choose a study, then MONAI Label.'
    lines += [
        ("In the browser (OHIF)", viewer or escape(NO_VIEWER)),
        ("In 3D Slicer", f"Module <i>MONAI Label</i>, server <code>{escape(address)}</code>, then <i>Next Sample</i>."),
        ("For programs", f"{_link('info/')}, and {_link('openapi.json')} with all requests (OpenAPI)."),
    ]
    body = "\n".join(f"<dt>{escape(name)}</dt><dd>{text}</dd>" for name, text in lines)
    return _page("Brain tumour segmentation with report and clicks", f"<dl>\n{body}\n</dl>")


def no_viewer() -> HTMLResponse:
    """In place of the viewer, which would only say that its data source is missing."""
    return _page("No viewer here", f'<p>{escape(NO_VIEWER)}</p>\n<p><a href="/">What this server serves</a></p>')


def of_files(studies: str | None = None) -> bool:
    """Whether the studies are files, and not on a DICOMweb server."""
    studies = settings.MONAI_LABEL_STUDIES if studies is None else studies
    return bool(studies) and not studies.startswith(("http://", "https://"))


def what_is_served(app: Any) -> str:
    """The studies in a sentence, and how many cases there are."""
    kind = "the folder" if of_files(app.studies) else "the DICOMweb server"
    try:
        count = len(app.datastore().list_images())
    except ClientError as error:
        return f"{kind} {app.studies}: {error.sentence}"
    said = f"{counted(count, 'case')} of {kind} {app.studies}"
    return said if count else f"{said}. make doctor STUDIES=... says what cases look like."


def _served(app: Any) -> list[tuple[str, str]]:
    models = ", ".join(f"<code>{escape(name)}</code> ({escape(task.type.value)})" for name, task in app._infers.items())
    return [
        ("Served", escape(what_is_served(app))),
        ("Models", models),
        ("Weights", escape(app.models.current().name)),
    ]


def _link(path: str) -> str:
    return f'<a href="{path}">/{path}</a>'


def _page(title: str, body: str) -> HTMLResponse:
    return HTMLResponse(
        _PAGE.format(title=escape(title), body=body),
        headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
    )
