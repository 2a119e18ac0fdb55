"""Labels resampled to the current grids of their images, and all labelled cases as files for training or download."""

from __future__ import annotations

import json
import logging
import time
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import nibabel as nib
import numpy as np

from brats_clip.cases import SEQUENCES
from brats_clip.errors import BratsClipError
from brats_clip.geometry import Grid
from brats_clip.images import new_image, read_header

from ..durable import durable_write, key_of, touch
from ..errors import ClientError, Refused, sentence
from ..studies import Case, CaseSource
from ..studies.library import CaseLibrary
from . import ACCEPTED_FROM, ENDING, FINAL, Revision
from .store import LabelStore

logger = logging.getLogger(__name__)
_KEPT_S = 3600  # an archive this old has been downloaded


class LabelledCases:
    """Labels on the grids of the current images of their case, and all labelled cases as files.

    A stored label never changes. The reference of its case may change later: by a setting, because a sequence was
    added, or because an image was replaced. The label is then resampled, by the positions of its voxels in the head.
    """

    def __init__(self, source: CaseSource, labels: LabelStore, library: CaseLibrary, cache: Path) -> None:
        self._source, self._labels, self._library, self._cache = source, labels, library, Path(cache)
        self._left_out: list[dict[str, str]] = []

    def file(self, case: Case, sequence: str | None, revision: Revision) -> Path:
        """Return a file with the label on the native grid of ``sequence`` (None: on that of the prepared images): the
        stored file if it is on that grid, else a resampled one (nearest voxel) from the cache.

        Raises:
            NotFound, Refused, Unreachable: if the images cannot be used.
            Refused: if no voxel of the label is inside that grid.
        """
        lies = read_header(revision.path).grid
        if sequence == case.reference == revision.record.get("reference", sequence):
            image = self._library.image_file(case.images[sequence].image_id)
            if lies.same_as(read_header(image).grid):
                return revision.path
        aligned = self._library.aligned(case)
        drawn_on = _drawn_on(revision, lies, case.reference, aligned.grids)
        wanted = aligned.preparation.working if sequence is None else aligned.grids[sequence]
        if drawn_on == (sequence or case.reference) and lies.same_as(wanted):
            return revision.path
        way = key_of(drawn_on, revision.record["sha256"], aligned.preparation.to_json())
        name = f"{case.case_id}-{revision.number:04d}-{sequence or 'prepared'}-{way}"
        path = self._cache / "labels" / f"{name}{ENDING}"
        if not path.exists():
            label = np.asarray(nib.load(revision.path).dataobj)
            placed = aligned.label_from(drawn_on, label, lies.affine, sequence).astype(np.uint8)
            if label.any() and not placed.any():
                raise Refused(
                    f"Label {revision.number} of case {case.case_id} lies nowhere in {sequence or case.reference} as "
                    f"it is now: found {lies}. Was the image replaced? Restore it, or label the case again."
                )
            with durable_write(path) as draft:
                nib.save(new_image(placed, wanted.affine), draft)
            where = sequence or "the prepared images"
            logger.info("label %s of case %s resampled to the grid of %s", revision.number, case.case_id, where)
        touch([path], self._cache)
        return path

    def patients(self) -> dict[str, str]:
        """Return the patient of each case with a final label. Opens no file."""
        labelled = set(self._labels.labelled(FINAL))
        return {case_id: case.patient for case_id, case in sorted(self._source.cases().items()) if case_id in labelled}

    def entries(self) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        """Return an entry for each case with a final label: images on one grid, label, report, patient.

        Each label is the file of a revision, which later saves do not change. It is resampled if it was stored on
        another grid than that of the images.

        Returns:
            The entries, and ``case`` and ``reason`` of each case that cannot be used; these are also logged and listed
            by ``problems``.
        """
        entries, left_out = [], []
        for case_id in sorted(set(self._source.cases()) & set(self._labels.labelled(FINAL))):
            try:
                entries.append(self._entry(case_id))
            except (ClientError, BratsClipError, OSError) as error:
                left_out.append({"case": case_id, "reason": sentence(error)})
                logger.warning("case %s is left out: %s", case_id, left_out[-1]["reason"])
        self._left_out = left_out
        return entries, left_out

    def problems(self) -> list[str]:
        """Return a sentence for each case that the last call of ``entries`` left out."""
        return [f"Labelled case {out['case']} is left out: {out['reason']}" for out in self._left_out]

    def _entry(self, case_id: str) -> dict[str, Any]:
        case = self._source.resolve(case_id)[0]
        files = {sequence: str(path) for sequence, path in self._library.aligned(case).files.items()}
        revision = self._labels.in_use(case.case_id, FINAL)
        label = str(self.file(case, None, revision))
        report = self._source.report(case)
        entry = {"case": case_id, **files, "label": label, "report": report, "patient": case.patient}
        return {**entry, "image": files[case.reference], "corrected": ACCEPTED_FROM not in revision.record}


def _drawn_on(revision: Revision, lies: Grid, reference: str, grids: dict[str, Grid]) -> str:
    """Return the sequence that was the reference when a label was stored: as recorded, else inferred from its grid."""
    noted = revision.record.get("reference")
    if noted in grids:
        return noted
    return next((s for s in (reference, *grids) if lies.same_as(grids[s])), reference)


def write_archive(folder: Path, entries: Iterable[Mapping[str, Any]], records: Mapping[str, Any]) -> Path:
    """Write ``CASE/CASE_t1.nii.gz``, ..., ``CASE_seg.nii.gz``, ``CASE_report.txt`` and ``metadata.json``.

    Returns:
        The ZIP file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.zip"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > _KEPT_S:
                old.unlink()
    path = folder / f"dataset-{uuid4().hex[:12]}.zip"
    try:
        with zipfile.ZipFile(path, "x") as archive:  # not compressed: most images already are
            for entry in entries:
                case = entry["case"]
                files = {sequence: entry[sequence] for sequence in SEQUENCES if entry.get(sequence)}
                for role, file in {**files, "seg": entry["label"]}.items():
                    ending = ".nii.gz" if str(file).endswith(".gz") else ".nii"
                    archive.write(file, f"{case}/{case}_{role}{ending}")
                if entry.get("report"):
                    archive.writestr(f"{case}/{case}_report.txt", entry["report"].strip())
            archive.writestr("metadata.json", json.dumps(records, indent=2, ensure_ascii=False))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path
