"""A datastore stub for tests of the review queue: cases, labels of a few voxels, leases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np

from brats_label.case_info import Leases
from brats_label.errors import NotFound
from brats_label.labels import FINAL, ORIGINAL, Revision
from brats_label.labels.store import LabelStore
from brats_label.labels.submission import StoredLabel
from brats_label.review.queue import ReviewQueue
from brats_label.store import Store
from brats_label.studies import Case, ChosenImage


class Archive:
    """The part of a datastore that the queue uses; ``now`` is the clock of its leases."""

    def __init__(self, folder: Path, cases: list[str] | None = None) -> None:
        self.folder, self.cases, self.now = folder, cases if cases is not None else [], 1_700_000_000.0
        self.store = Store(folder / "store.db")
        self.labels = LabelStore(folder / "labels", self.store)
        self.leases = Leases(self.store, clock=lambda: self.now)
        self.queue = ReviewQueue(self, self.leases)
        self.source = SimpleNamespace(resolve=self._resolve, cases=lambda: {c: self._resolve(c)[0] for c in self.cases})
        self.workspace, self.library = SimpleNamespace(cache=folder / "cache"), SimpleNamespace(image_file=self._image)

    def add(self, *cases: str) -> None:
        self.cases += cases

    def list_images(self) -> list[str]:
        return sorted(self.cases)

    def suggest(self, case_id: str, dice: float | None, value: int = 4, **more: Any) -> Revision:
        """Save a pre-annotation with an expected Dice."""
        expected = {} if dice is None else {"expected_dice": dict.fromkeys(("WT", "TC", "ET"), dice)}
        record = {"who": "unknown", "model": "segmentation", "model_version": "1", **expected, **more}
        return self.labels.save(case_id, ball(value), ORIGINAL, record)

    def label(self, case_id: str, who: str, value: int = 4, **more: Any) -> Revision:
        return self.labels.save(case_id, ball(value), FINAL, {"who": who, **more})

    def store_label(self, image_id: str, path: Path, tag: str, params: Mapping, facts: Mapping) -> StoredLabel:
        record = {"who": params["user"] or "unknown", "model": params.get("model"), **facts}
        case = self._resolve(image_id)[0]
        return StoredLabel(case, self.labels.save(case.case_id, nib.load(path), tag, record), ())

    def _image(self, image_id: str) -> Path:
        path = self.folder / "t1ce.nii.gz"
        if not path.exists():
            nib.save(nib.Nifti1Image(ball(100, 5.0).get_fdata().astype(np.int16), np.eye(4)), path)
        return path

    def _resolve(self, image_id: str) -> tuple[Case, str]:
        if image_id not in self.cases:
            raise NotFound("no such case")
        return Case(image_id, image_id, {"t1ce": ChosenImage("t1ce", image_id, "x", "")}, "t1ce"), "t1ce"


def ball(value: int, radius: float = 3.0) -> nib.Nifti1Image:
    """Return a label with a ball of one value."""
    distance = np.linalg.norm(np.indices((12, 12, 12)).T - 5.5, axis=-1).T
    return nib.Nifti1Image(np.where(distance <= radius, value, 0).astype(np.uint8), np.eye(4))
