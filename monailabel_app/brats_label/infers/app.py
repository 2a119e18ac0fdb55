"""What answering needs of the app, which knows those who answer; they do not know it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
from monailabel.utils.sessions import Sessions

from ..datastore import CaseDatastore
from ..models import ModelRegistry
from ..settings import Settings
from ..studies import Case
from .gate import Gate
from .service import SegmentationService
from .tasks import SegmentationTask


class Exchange(Protocol):
    """What writes answers as DICOM SEG: ``brats_label.labels.seg_exchange.SegExchange``."""

    def write(self, case: Case, label: nib.Nifti1Image, path: Path, version: str) -> None:
        """Write an answer, by the weights of that version."""


class App(Protocol):
    """The app as those who answer see it.

    Attributes:
        settings: of the app.
        models: which weights are in use.
        gate: how many compute at a time.
        service: answers for the cases of the app.
        exchange: for labels as DICOM SEG; None where the studies are files.
    """

    settings: Settings
    models: ModelRegistry
    gate: Gate
    service: SegmentationService
    exchange: Exchange | None

    def datastore(self) -> CaseDatastore:
        """The cases and their labels."""

    def sessions(self) -> Sessions | None:
        """Images that clients sent along; None if the server takes none."""

    def infer_task(self, model: str) -> SegmentationTask:
        """The model of that name. Raises ``NotFound`` with the names there are."""

    def infer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a request; see ``answer_request``."""

    def on_save_label(self, image_id: str, label_id: str, tag: str) -> None:
        """A label was stored."""
