"""Routes of the review queue: page and JSON, accepting, leases, thumbnails, and the CSV export of labelling effort."""

from __future__ import annotations

import secrets
import threading
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from monailabel.config import RBAC_ANNOTATOR, RBAC_USER

from brats_clip.labels import REGIONS

from ..case_info import Notes
from ..durable import durable_write
from ..errors import NotFound, check_text
from ..labels import FINAL, ORIGINAL
from ..review.agreement import Agreements
from ..review.export import labels_as_csv
from ..review.queue import summary
from ..review.thumbnail import draw_thumbnail
from .authentication import Annotator, AnyUser, User, annotator_name
from .inputs import App
from .pages import of_files

router = APIRouter(prefix="/review", tags=["Review"])
SHOWN = 200  # rows on the page by default
_templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
_drawing = threading.Lock()  # one thumbnail at a time: a page requests many


class ListingType(str, Enum):
    """Format of the response."""

    html = "html"
    json = "json"


@router.get("/", summary=f"{RBAC_USER}The review queue")
def queue(app: App, user: AnyUser, request: Request, output: ListingType | None = None, all: bool = False) -> Response:
    """Return the cases by expected gain, the agreement of two readers, and the expected quality of the rest.

    JSON for ``Accept: application/json`` or ``output=json``, a page otherwise; the page has the first 200 cases unless
    ``all``.
    """
    rows = app.review.rows()
    agreement = Agreements(app.review, Notes(app.store)).report(rows)
    if (output or _accepted(request)) == ListingType.json:
        content = {"summary": summary(rows), "agreement": agreement, "cases": [row.to_dict() for row in rows]}
        return JSONResponse(content)
    nonce, cases = secrets.token_urlsafe(16), app.datastore().source.cases()
    links = {row.case_id: _viewer_link(cases[row.case_id].info) for row in rows if row.case_id in cases}
    page = _templates.get_template("review.html").render(
        rows=rows if all else rows[:SHOWN],
        left_out=0 if all else max(0, len(rows) - SHOWN),
        links=links,
        summary=summary(rows),
        agreement=agreement,
        regions=list(REGIONS),
        nonce=nonce,
    )
    allowed = f"default-src 'none'; img-src 'self'; connect-src 'self'; script-src 'nonce-{nonce}'; "
    headers = {"Content-Security-Policy": f"{allowed}style-src 'nonce-{nonce}'", "Cache-Control": "no-store"}
    return HTMLResponse(page, headers=headers)


@router.get("/export.csv", summary=f"{RBAC_USER}Who saved which label, when, how long it took, with how many clicks")
def export(app: App, user: AnyUser) -> Response:
    """Return a row for every final label ever saved."""
    headers = {"Content-Disposition": 'attachment; filename="labels.csv"'}
    content = labels_as_csv(app.datastore().labels.by_case())
    return Response(content, media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/{case}/thumbnail.png", summary=f"{RBAC_USER}A small picture of the newest label on its image")
def thumbnail(app: App, user: AnyUser, case: str) -> Response:
    """Return the axial slice with the most tumour; 404 for a case with neither a label nor a pre-annotation."""
    datastore = app.datastore()
    case_id = datastore.source.resolve(case)[0].case_id
    revision = datastore.labels.current(case_id, FINAL) or datastore.labels.current(case_id, ORIGINAL)
    if revision is None:
        raise NotFound(f"Case {case_id} has no label yet, so there is nothing to show.")
    path = datastore.workspace.cache / "thumbnails" / f"{case_id}_{revision.record['sha256'][:16]}.png"
    with _drawing:
        if not path.is_file():
            content = draw_thumbnail(datastore.library.image_file(case_id), revision.path)
            with durable_write(path) as draft:
                draft.write_bytes(content)
    headers = {"Cache-Control": "private, max-age=60"}
    return Response(path.read_bytes(), media_type="image/png", headers=headers)


@router.post("/{case}/accept", summary=f"{RBAC_ANNOTATOR}Make the pre-annotation the final label, as it is")
def accept(
    app: App, user: Annotator, case: str, version: int | None = None, client_id: str | None = None
) -> dict[str, Any]:
    """Refused (409) while somebody else holds the lease, or if ``version`` is not the current pre-annotation."""
    stored = app.review.accept(case, _who(user, client_id), client_id or "", version)
    return {"label": stored.case.case_id, **stored.to_dict(), "row": app.review.row(case).to_dict()}


@router.post("/{case}/lease", summary=f"{RBAC_ANNOTATOR}Lease a case for editing")
def take(app: App, user: Annotator, case: str, client_id: str | None = None) -> dict[str, Any]:
    """Lease the case for two hours, or until a label is saved; 409 if somebody else holds the lease."""
    return app.review.lease(case, _who(user, client_id)).to_dict()


@router.delete("/{case}/lease", summary=f"{RBAC_ANNOTATOR}Release the lease of a case")
def give_back(app: App, user: Annotator, case: str, client_id: str | None = None) -> dict[str, Any]:
    """Release the lease, so that others can get the case."""
    return app.review.give_back(case, _who(user, client_id)).to_dict()


def _who(user: User, client_id: str | None) -> str:
    check_text(client_id, "client_id")
    return annotator_name(user, client_id)[:100]


def _accepted(request: Request) -> ListingType:
    return ListingType.json if "application/json" in request.headers.get("accept", "") else ListingType.html


def _viewer_link(info: dict[str, Any]) -> str:
    """Return the address of the study in OHIF; "" for files, which OHIF cannot show."""
    uid = info.get("StudyInstanceUID", "")
    return "" if of_files() or not uid else f"/ohif/monai-label?StudyInstanceUIDs={quote(str(uid), safe='')}"
