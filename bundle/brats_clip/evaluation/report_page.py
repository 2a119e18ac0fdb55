"""A self-contained HTML page about an evaluation, without external resources."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from ..images import atomic_write
from ..labels import REGIONS
from .charts import curve_panels, dice_strips, volume_scatter
from .lesionwise import SMALL_LESION_MM3
from .metrics import HD95_ONE_EMPTY
from .overlay import REGION_NAMES
from .summary import Row

_TEMPLATES = Path(__file__).with_name("templates")
_WEBP_QUALITY = 80


def write_report(
    path: str | os.PathLike,
    rows: Sequence[Row],
    summary: Mapping[str, Mapping[str, Any]],
    run: Mapping[str, Any],
    overlays: Mapping[str, str | os.PathLike] | None = None,
    reports: Mapping[str, str] | None = None,
    assessments: Mapping[str, Mapping[str, Any]] | None = None,
    curves: Mapping[str, Sequence[float | None]] | None = None,
    title: str = "Brain-tumour segmentation: evaluation",
    max_pictures: int = 200,
) -> None:
    """Write ``report.html`` atomically.

    Args:
        path: the page.
        rows: one row per case, as ``case_metrics`` returns it with a ``case``.
        summary: what ``summarise`` returns for these rows.
        run: metadata of the run, shown unchanged and in this order.
        overlays: path of the picture by case; a case whose file is missing is shown without a picture.
        reports: report text by case; "" or missing means the case had none.
        assessments: output of ``quality.Assessment.to_dict`` by case, shown beside the actual scores.
        curves: ``epoch``, losses and scores of a training run, each a list of the same length.
        title: heading of the page.
        max_pictures: embed the pictures of this many worst cases only, to limit the size of the page (about 40 KB
            each).
    """
    worst_first = sorted(rows, key=lambda row: (row["dice_mean"], str(row["case"])))
    overlays, reports = dict(overlays or {}), dict(reports or {})
    shown = [str(row["case"]) for row in worst_first if _exists(overlays.get(row["case"]))][:max_pictures]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,  # case names and report texts come from files
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["figure"] = _figure
    page = environment.get_template("report.html.j2").render(
        title=title,
        run=dict(run),
        rows=sorted(rows, key=lambda row: str(row["case"])),
        worst_first=worst_first,
        summary=summary,
        regions=list(REGIONS),
        region_names=REGION_NAMES,
        pictures={case: _data_uri(overlays[case]) for case in shown},
        left_out=len(rows) - len(shown) if shown else 0,
        reports=reports,
        assessments=dict(assessments or {}),
        strips=dice_strips(rows),
        volumes=volume_scatter(rows),
        panels=curve_panels(curves) if curves else [],
        penalty=HD95_ONE_EMPTY,
        small_lesion=SMALL_LESION_MM3,
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _exists(path: str | os.PathLike | None) -> bool:
    return path is not None and Path(path).is_file()


def _data_uri(path: str | os.PathLike) -> str:
    buffer = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").save(buffer, "WEBP", quality=_WEBP_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _figure(value: float | None, digits: int = 3) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.{digits}f}"
