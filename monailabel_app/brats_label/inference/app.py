"""What the parts of the app see of it: the app knows its parts, they know this."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import nibabel as nib
from monailabel.utils.sessions import Sessions

from ..datastore import CaseDatastore
from ..models import ModelRegistry
from ..prompt_history import PromptHistory
from ..settings import Settings
from ..studies import Case
from . import AdmissionControl
from .service import SegmentationService
from .tasks import SegmentationTask

if TYPE_CHECKING:
    from ..review.queue import ReviewQueue
    from ..training.task import FineTune
    from .batch import Batch


class Exchange(Protocol):
    """What writes answers as DICOM SEG: ``brats_label.labels.seg_exchange.SegExchange``."""

    def write(self, case: Case, label: nib.Nifti1Image, path: Path, version: str) -> None:
        """Write an answer, by the weights of that version."""


class App(Protocol):
    """The app as its parts see it: server, inference and batch.

    Attributes:
        settings: of the app.
        models: which weights are in use.
        admission: how many compute at a time.
        service: answers for the cases of the app.
        exchange: for labels as DICOM SEG; None where the studies are files.
        trainers: by the model that they train.
        batch: all cases in one go.
        prompts: the answers that people got.
        review: the review queue.
    """

    settings: Settings
    models: ModelRegistry
    admission: AdmissionControl
    service: SegmentationService
    exchange: Exchange | None
    trainers: dict[str, FineTune]
    batch: Batch
    prompts: PromptHistory
    review: ReviewQueue

    def datastore(self) -> CaseDatastore:
        """The cases and their labels."""

    def sessions(self) -> Sessions | None:
        """Images that clients sent along; None if the server takes none."""

    def info(self) -> dict[str, Any]:
        """Models, strategies, trainers, and how many cases there are."""

    def infer_task(self, model: str) -> SegmentationTask:
        """The model of that name. Raises ``NotFound`` with the names there are."""

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        """The case to label next; empty if none is left."""

    def on_save_label(self, image_id: str, label_id: str, tag: str) -> None:
        """A label was stored."""

    def train_progress(self) -> dict[str, Any]:
        """Figures of the training that runs, or ran last."""

    def try_weights(self, path: Path) -> None:
        """Raise ``WeightsError`` unless the weights fit the bundle's network."""
