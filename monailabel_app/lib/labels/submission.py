"""What happens to a label that a client submits: checked, brought to the case's grid, stored, passed on."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np

from brats_clip.errors import InputError

from ..cases.case import Case, CaseSource
from ..cases.grid import Grid
from ..errors import ClientError, Refused
from .drawing import Drawing
from .store import LabelStore
from .validation import MAX_BYTES, ValidLabel, validate
from .version import FINAL, Version

logger = logging.getLogger(__name__)
_LONGEST = {"who": 100, "client_id": 100, "model": 100, "model_version": 100, "comment": 2000}


class Library(Protocol):
    """Where images are found: ``lib.cases.library.CaseLibrary``."""

    def image_file(self, image_id: str) -> Path:
        """The native 3D NIfTI file that ``image_id`` shows."""

    def aligned(self, case: Case) -> Any:
        """The case on one grid: ``lib.cases.aligned.Aligned``."""


@dataclass(frozen=True)
class StoredLabel:
    """A label that was stored.

    Attributes:
        case: whose.
        version: under which number.
        notes: how it was read, what was resampled, and what went wrong after it was stored. For people.
        passed_on: whether ``on_stored`` did its work; None if there was nothing to do.
    """

    case: Case
    version: Version
    notes: tuple[str, ...]
    passed_on: bool | None = None


class Submissions:
    """Takes labels for the cases of a source.

    Args:
        source: whose cases.
        library: where their images are.
        store: where labels go.
        max_bytes: largest file.
        read_dicom_seg: as in ``validate``.
        on_stored: called with case, label on the reference grid and version, for labels that people submitted (tag
            ``final``): to put a DICOM SEG on a server, say. Its failure loses nothing: the label is stored by then.
    """

    def __init__(
        self,
        source: CaseSource,
        library: Library,
        store: LabelStore,
        max_bytes: int = MAX_BYTES,
        read_dicom_seg: Callable[[Path, Grid], Drawing] | None = None,
        on_stored: Callable[[Case, nib.Nifti1Image, Version], object] | None = None,
    ) -> None:
        self._source, self._library, self._store = source, library, store
        self._max_bytes, self._read_dicom_seg = max_bytes, read_dicom_seg
        self.on_stored = on_stored

    def submit(self, image_id: str, path: Path, tag: str, params: Mapping[str, Any]) -> StoredLabel:
        """Check and store a label.

        Args:
            image_id: of the image it was drawn on; any of the case's.
            path: the file as it was uploaded.
            tag: ``final`` or ``original``.
            params: of the request. ``user`` and ``client_id`` say who, ``model``, ``model_version`` and ``comment``
                are kept, ``label_info`` and ``empty`` are read by ``validate``. All else is not stored.

        Raises:
            NotFound: for an id of no case.
            Refused, TooLarge: for a label that cannot be used; the one before stays.
        """
        case, sequence = self._source.resolve(image_id)
        grid = Grid.of(self._library.image_file(image_id))
        valid = validate(Path(path), grid, params, self._max_bytes, self._read_dicom_seg)
        label, as_drawn = self._on_reference(case, sequence, valid)
        notes = [f"Read as {valid.read_as}."]
        if as_drawn is not None:
            notes.append(f"Drawn on {sequence}, brought to the grid of {case.reference} by the nearest voxel.")
        record = {**_read_record(params), "image": case.images[sequence].image_id, "read_as": valid.read_as}
        record["reference"] = case.reference  # it may be another one day
        version = self._store.save(case.case_id, label, tag, record, as_drawn)
        passed_on = None
        if self.on_stored is not None and tag == FINAL:
            passed_on = self._pass_on(case, label, version, notes)
        return StoredLabel(case, version, tuple(notes), passed_on)

    def check_found(self, case_id: str, path: Path) -> tuple[nib.Nifti1Image, None]:
        """Check a file that somebody put among the labels: on the reference grid, with BraTS numbers.

        Raises:
            ClientError: if it cannot be used.
        """
        case = self._source.resolve(case_id)[0]
        sequence = case.reference
        try:
            grid = Grid.of(self._library.image_file(case.images[sequence].image_id))
        except InputError as error:
            raise Refused(f"The image it is for cannot be read: {error.found}.") from None
        return self._on_reference(case, sequence, validate(path, grid, {}, self._max_bytes))[0], None

    def _on_reference(
        self, case: Case, sequence: str, valid: ValidLabel
    ) -> tuple[nib.Nifti1Image, nib.Nifti1Image | None]:
        drawn = nib.Nifti1Image(valid.array, valid.grid.affine)
        if sequence == case.reference:
            return drawn, None
        aligned = self._library.aligned(case)
        array = np.asarray(aligned.label_from(sequence, valid.array, valid.grid.affine)).astype(np.uint8)
        if valid.array.any() and not array.any():
            raise Refused(
                f"The label, drawn on {sequence}, leaves no voxel on the grid of {case.reference}: it is too small or "
                f"lies outside. Draw it on {case.reference}."
            )
        label = nib.Nifti1Image(array, aligned.reference_affine)
        same = array.shape == valid.array.shape and np.array_equal(array, valid.array)
        return label, None if same else drawn

    def _pass_on(self, case: Case, label: nib.Nifti1Image, version: Version, notes: list[str]) -> bool:
        which = f"label {version.number} of case {case.case_id}"
        try:
            self.on_stored(case, label, version)
        except ClientError as error:
            logger.warning("%s is stored, not passed on", which)
            notes.append(f"The label is stored; passing it on failed: {error.sentence}")
            return False
        except Exception:  # whatever it is, the label is safe and the person must hear of both
            error_id = uuid.uuid4().hex[:8]
            logger.exception(
                "label %s of case %s is stored, not passed on [%s]", version.number, case.case_id, error_id
            )
            notes.append(f"The label is stored; passing it on failed. The server's log says why: {error_id}.")
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
