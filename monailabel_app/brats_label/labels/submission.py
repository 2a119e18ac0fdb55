"""Submit a label: check it, resample it to the reference grid of the case, store it and deliver it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from brats_clip.errors import InputError
from brats_clip.geometry import Grid
from brats_clip.images import read_header

from ..errors import ClientError, Refused
from ..studies import Case, CaseSource
from ..studies.library import CaseLibrary
from . import FINAL, Revision
from .outbox import Outbox
from .reading import Drawing
from .store import LabelStore
from .validation import MAX_BYTES, ValidLabel, validate

logger = logging.getLogger(__name__)
_LONGEST = {"who": 100, "client_id": 100, "model": 100, "model_version": 100, "comment": 2000}


@dataclass(frozen=True)
class StoredLabel:
    """The result of saving, restoring or removing a label.

    Attributes:
        case: the case of the label.
        revision: the new revision.
        notes: how the label was read, whether it was resampled, and any failed delivery; for users.
        delivered: whether the DICOM server is up to date; None if nothing is delivered to one.
    """

    case: Case
    revision: Revision
    notes: tuple[str, ...]
    delivered: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain JSON for clients."""
        return {"version": self.revision.number, "notes": list(self.notes), "passed_on": self.delivered}


class Submissions:
    """Accepts labels for the cases of a source.

    Args:
        max_bytes: largest file.
        read_dicom_seg: as in ``validate``.
        outbox: delivers labels that users submitted (tag ``final``) to the DICOM server. A failed delivery loses no
            label: it is already stored.
    """

    def __init__(
        self,
        source: CaseSource,
        library: CaseLibrary,
        store: LabelStore,
        max_bytes: int = MAX_BYTES,
        read_dicom_seg: Callable[[Path, Grid], Drawing] | None = None,
        outbox: Outbox | None = None,
    ) -> None:
        self._source, self._library, self._store = source, library, store
        self._max_bytes, self._read_dicom_seg = max_bytes, read_dicom_seg
        self._outbox = outbox

    def submit(
        self, image_id: str, path: Path, tag: str, params: Mapping[str, Any], facts: Mapping[str, Any] | None = None
    ) -> StoredLabel:
        """Check and store a label.

        Args:
            image_id: id of the image that the label was drawn on; any image of the case.
            path: the uploaded file.
            tag: ``final`` or ``original``.
            params: of the request. ``user`` and ``client_id`` say who submits the label; ``model``, ``model_version``
                and ``comment`` are stored; ``validate`` reads ``label_info`` and ``empty``. Other keys are not stored.
            facts: metadata from the app itself, plain JSON, stored unchanged.

        Raises:
            NotFound: if no case has this id.
            Refused, TooLarge: for a label that cannot be used; the previous label stays.
        """
        case, sequence = self._source.resolve(image_id)
        grid = read_header(self._library.image_file(image_id)).grid
        valid = validate(Path(path), grid, params, self._max_bytes, self._read_dicom_seg)
        label, as_drawn = self._on_reference(case, sequence, valid)
        notes = [f"Read as {valid.read_as}."]
        if as_drawn is not None:
            notes.append(f"Drawn on {sequence}, resampled to the grid of {case.reference} by the nearest voxel.")
        record = {**_read_record(params), "image": case.images[sequence].image_id, "read_as": valid.read_as}
        record |= {"reference": case.reference, **(facts or {})}  # the reference may change later
        return self._keep(case, tag, lambda: self._store.save(case.case_id, label, tag, record, as_drawn), notes)

    def restore(self, image_id: str, number: int, who: str) -> StoredLabel:
        """Store an earlier revision of a case's label again as the newest.

        Raises:
            NotFound: if no case has this id, or no label of the case this number.
        """
        case, _ = self._source.resolve(image_id)
        tag = next((v.tag for v in self._store.history(case.case_id) if v.number == number), FINAL)
        return self._keep(case, tag, lambda: self._store.restore(case.case_id, number, {"who": who}), [])

    def remove(self, image_id: str, tag: str, who: str) -> StoredLabel:
        """Remove the label of a case; its revisions are kept.

        Raises:
            NotFound: if no case has this id, or the case has no label with this tag.
        """
        case, _ = self._source.resolve(image_id)
        return self._keep(case, tag, lambda: self._store.remove(case.case_id, tag, {"who": who}), [])

    def _keep(self, case: Case, tag: str, change: Callable[[], Revision], notes: list[str]) -> StoredLabel:
        """Apply a change to the label store, then deliver it."""
        if self._outbox is None or tag != FINAL:
            return StoredLabel(case, change(), tuple(notes))
        self._outbox.add(case.case_id)
        revision = change()
        delivered = self._deliver(case, revision, notes)
        if delivered:
            self._outbox.retry_in_background()  # the server answers: retry earlier deliveries, too
        return StoredLabel(case, revision, tuple(notes), delivered)

    def check_found(self, case_id: str, path: Path) -> nib.Nifti1Image:
        """Check a file that a user copied into the label folders; it is on the reference grid, with BraTS numbers.

        Raises:
            ClientError: if it cannot be used.
        """
        case = self._source.resolve(case_id)[0]
        sequence = case.reference
        try:
            grid = read_header(self._library.image_file(case.images[sequence].image_id)).grid
        except InputError as error:
            raise Refused(f"The image it is for cannot be read: {error.found}.") from None
        return self._on_reference(case, sequence, validate(path, grid, {}, self._max_bytes))[0]

    def _on_reference(
        self, case: Case, sequence: str, valid: ValidLabel
    ) -> tuple[nib.Nifti1Image, nib.Nifti1Image | None]:
        drawn = nib.Nifti1Image(valid.array, valid.grid.affine)
        if sequence == case.reference:
            return drawn, None
        aligned = self._library.aligned(case)
        array = aligned.label_from(sequence, valid.array, valid.grid.affine).astype(np.uint8)
        if valid.array.any() and not array.any():
            raise Refused(
                f"The label, drawn on {sequence}, leaves no voxel on the grid of {case.reference}: it is too small or "
                f"lies outside. Draw it on {case.reference}."
            )
        label = nib.Nifti1Image(array, aligned.reference_affine)
        same = array.shape == valid.array.shape and np.array_equal(array, valid.array)
        return label, None if same else drawn

    def _deliver(self, case: Case, revision: Revision, notes: list[str]) -> bool:
        done = "removed here" if revision.removed else "stored"
        failed = f"The label is {done}; its delivery to the DICOM server failed and will be tried again"
        log = "label %s of case %s is %s, not delivered: %s"
        try:
            notes += self._outbox.deliver(case.case_id)
        except ClientError as error:
            logger.warning(log, revision.number, case.case_id, done, error.sentence)
            notes.append(f"{failed}: {error.sentence}")
            return False
        except Exception:  # the label is stored: report that to the user, and the failure
            error_id = uuid.uuid4().hex[:8]
            logger.exception(log, revision.number, case.case_id, done, error_id)
            notes.append(f"{failed}. The server's log says why: {error_id}.")
            return False
        return True


def _read_record(params: Mapping[str, Any]) -> dict[str, str]:
    result = params.get("params") if isinstance(params.get("params"), Mapping) else {}
    model = result.get("model") if isinstance(result.get("model"), Mapping) else {}
    given = {
        "who": params.get("user") or params.get("client_id") or "unknown",
        "client_id": params.get("client_id"),
        "model": params.get("model"),
        "model_version": params.get("model_version") or model.get("version"),
        "comment": params.get("comment"),
    }
    kept = {key: value for key, value in given.items() if isinstance(value, (str, int)) and value != ""}
    return {key: _plain(str(value))[: _LONGEST[key]] for key, value in kept.items()}


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
