"""MONAI Label app: segment brain tumours, correct them in a browser or 3D Slicer, and fine-tune on the labels.

python -m monailabel.main start_server --app monailabel_app --studies STUDIES --host 127.0.0.1
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import schedule
from monailabel.config import settings as server
from monailabel.interfaces.app import MONAILabelApp

import brats_label  # noqa: F401 - adds the bundle to sys.path
from brats_clip import Segmenter
from brats_label.case_info import Leases
from brats_label.datastore import CaseDatastore
from brats_label.errors import NotFound, check_text
from brats_label.inference import AdmissionControl
from brats_label.inference.answers import ClickTask, SegmentationTask, answer_request
from brats_label.inference.batch import Batch
from brats_label.inference.service import SegmentationService
from brats_label.labels import FINAL
from brats_label.labels.outbox import SegExchange
from brats_label.labels.store import LabelStore
from brats_label.models import ModelRegistry
from brats_label.open_store import open_store
from brats_label.prompt_history import PromptHistory
from brats_label.review.queue import ReviewQueue
from brats_label.review.strategies import EXPECTED_GAIN, make_strategies
from brats_label.server import build_server, patches, viewer
from brats_label.server.pages import what_is_served
from brats_label.settings import Settings
from brats_label.studies.dicomweb import DicomWebSource
from brats_label.studies.library import CaseLibrary
from brats_label.studies.open import open_studies, remove_created_folder
from brats_label.training.progress import progress
from brats_label.training.task import FineTune

logger = logging.getLogger("brats_clip.app")


class BrainTumourApp(MONAILabelApp):
    """The application class that MONAI Label loads.

    Args:
        app_dir: the folder of this file.
        studies: a folder, or the URL of a DICOMweb server.
        conf: the ``--conf`` options; see ``Settings``.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.settings = Settings.read(conf)
        self.bundle = Path(self.settings.bundle) if self.settings.bundle else Path(app_dir).parent / "bundle"
        remove_created_folder(studies)
        self.source, self.workspace = open_studies(studies, self.settings)
        self.store = open_store(self.workspace)
        checkpoint = self.settings.checkpoint or self.bundle / "models" / "model.pt"
        self.models = ModelRegistry(self.workspace.models, checkpoint, self.store)
        self.library = CaseLibrary(self.source, self.workspace.cache, self.settings.preprocess)
        self.admission = AdmissionControl(self.settings.jobs, self.settings.waiting)
        self.service = SegmentationService(self.settings, self.source, self.library, self.models, self.admission)
        self.leases = Leases(self.store)
        self.prompts = PromptHistory(self.store)
        self.batch = Batch(self)
        server.MONAI_LABEL_AUTO_UPDATE_SCORING = False  # no scoring: each answer has its predicted quality
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name="Brain tumour with report and clicks",
            description="Segments WT, TC and ET from T1, T1ce, T2 and FLAIR, guided by the radiology report.",
            version=self.models.name_in_use(),
        )

    def init_datastore(self) -> CaseDatastore:
        # With a DICOMweb server, final labels are also delivered as DICOM SEG.
        self.exchange = SegExchange(self.source) if isinstance(self.source, DicomWebSource) else None
        return CaseDatastore(
            self.source,
            LabelStore(self.workspace.labels, self.store),
            self.workspace,
            self.library,
            studies=None if self.exchange else Path(self.studies),
            max_upload_bytes=self.settings.max_upload_mb * 2**20,
            read_dicom_seg=self.exchange.read if self.exchange else None,
            on_stored=self.exchange.store if self.exchange else None,
            on_removed=self.exchange.withdraw if self.exchange else None,
        )

    def init_infers(self) -> dict[str, SegmentationTask]:
        return {"segmentation": SegmentationTask(self.service), "deepedit": ClickTask(self.service)}

    def init_trainers(self) -> dict[str, FineTune]:
        return {"segmentation": FineTune(self.workspace, self.models, self.settings)}

    def init_strategies(self) -> dict[str, Any]:
        self.review = ReviewQueue(self.datastore(), self.leases, self.settings.double_share, self.settings.seed)
        return make_strategies(self.review)

    def on_init_complete(self) -> None:
        """Add the app's routes to the server, and start the background tasks."""
        from monailabel.app import app as server_app  # cannot be imported before the server has started

        patches.replace_application(server_app, build_server(self))
        patches.start_log.served = lambda: what_is_served(self)
        threading.Thread(target=viewer.check_viewer, name="viewer check", daemon=True).start()
        schedule.every(10).minutes.do(self._tidy)
        if (outbox := self.datastore().outbox) is not None:
            outbox.retry_in_background()
            schedule.every(2).minutes.do(outbox.retry_in_background)
        super().on_init_complete()

    @property
    def trainers(self) -> dict[str, FineTune]:
        """The training task of each model."""
        return self._trainers

    def train_progress(self) -> dict[str, Any]:
        """Return the progress of the current or last training; see ``progress``."""
        return progress(self.workspace)

    def infer_task(self, model: str) -> SegmentationTask:
        """Return the task of a model. Raise ``NotFound``, which lists the models, if there is none."""
        task = self._infers.get(model)
        if task is None:
            raise NotFound(f"model: found {model[:60]!r}; expected one of {', '.join(self._infers)}.")
        return task

    def infer(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        return answer_request(self, request)

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        name = str(request.get("strategy") or EXPECTED_GAIN)
        check_text(request.get("client_id"), "client_id")
        if name not in self._strategies:
            raise NotFound(f"strategy: found {name[:60]!r}; expected one of {', '.join(self._strategies)}.")
        chosen = self._strategies[name](request, self.datastore())
        if not chosen or not chosen.get("id"):
            return {}
        # A client on the same machine can open the file itself, if it need not be downloaded or split first.
        at_hand = getattr(self.source, "path_at_hand", None)
        return chosen | {"path": at_hand(self.library.case(chosen["id"])) if at_hand else ""}

    def on_save_label(self, image_id: str, label_id: str, tag: str = FINAL) -> None:
        """End the leases of a case that has got a final label."""
        if tag == FINAL:
            self.leases.release(label_id)

    def try_weights(self, path: Path) -> None:
        """Raise ``WeightsError`` unless the weights fit the bundle's network."""
        Segmenter(bundle=self.bundle, checkpoint=path, device="cpu", cache_bytes=0)

    def _tidy(self) -> None:
        try:
            self.library.trim(int(self.settings.disk_cache_gb * 2**30))
        except OSError as error:  # an exception would stop the scheduler
            logger.warning("the cache was not trimmed (%s)", error.strerror)


patches.attach_start_log()
# HTTP clients log every URL. MONAI Label logs request contents, with report text and files named after patients.
for chatty in (
    "dicomweb_client",
    "httpx",
    "httpcore",
    "monailabel.endpoints",
    "monailabel.utils.async_tasks",
    "monailabel.utils.sessions",
):
    logging.getLogger(chatty).setLevel(logging.WARNING)
