"""MONAI Label datastore of the cases and their labels: one image per patient."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
from monailabel.interfaces.datastore import Datastore

from brats_clip.errors import InputError
from brats_clip.geometry import Grid

from .case_info import Leases, Notes, image_info, label_info
from .errors import ClientError, NotFound, Refused, Unreachable
from .labels import ENDING, FINAL, TAGS, Revision, tag_of
from .labels.labelled_cases import LabelledCases, write_archive
from .labels.outbox import Outbox
from .labels.reading import Drawing
from .labels.store import LabelStore
from .labels.submission import StoredLabel, Submissions
from .labels.validation import MAX_BYTES
from .open_store import open_store
from .prompt_history import PromptHistory
from .settings import Workspace
from .studies import Case, CaseSource
from .studies.library import CaseLibrary
from .uploads import add_case

logger = logging.getLogger(__name__)
_IMAGES, _LABELS, _ITSELF = "images", "labels", "datastore"


class CaseDatastore(Datastore):
    """Cases of a source with their labels.

    An image id is the id of a case or of any of its sequences; lists hold case ids, so that each patient is listed
    once. The id of a label is that of its case; the id of a sequence gives the label resampled to that sequence's grid.
    Safe to use from several threads.

    Args:
        studies: folder for uploaded cases; None refuses uploads.
        max_upload_bytes: largest label file.
        read_dicom_seg: as in ``validate``.
        on_stored: ``put`` of ``Outbox``; without it there is no outbox.
        on_removed: ``withdraw`` of ``Outbox``.
    """

    def __init__(
        self,
        source: CaseSource,
        labels: LabelStore,
        workspace: Workspace,
        library: CaseLibrary,
        studies: Path | None = None,
        max_upload_bytes: int = MAX_BYTES,
        read_dicom_seg: Callable[[Path, Grid], Drawing] | None = None,
        on_stored: Callable[[Case, nib.Nifti1Image, Revision], object] | None = None,
        on_removed: Callable[[Case, Sequence[Revision]], Sequence[str]] | None = None,
    ) -> None:
        self.source, self.labels, self.workspace, self.library = source, labels, workspace, library
        self._store = open_store(workspace)
        self.outbox: Outbox | None = None
        if on_stored is not None:
            self.outbox = Outbox(self._store, labels, self._case, on_stored, on_removed)
        self.submissions = Submissions(source, library, labels, max_upload_bytes, read_dicom_seg, self.outbox)
        self._studies = studies
        self._labelled = LabelledCases(source, labels, library, workspace.cache)
        self._notes, self._leases, self._prompts = Notes(self._store), Leases(self._store), PromptHistory(self._store)
        self._taking = threading.Lock()
        if labels.unimported_files():  # checking them may take a while; they are not used until then
            threading.Thread(target=self._import_found, name="labels found on disk", daemon=True).start()

    def name(self) -> str:
        """Return the display name of the datastore."""
        return self._notes.get(_ITSELF, _ITSELF).get("name", "BraTS cases")

    def set_name(self, name: str) -> None:
        """Set the display name."""
        self._notes.update(_ITSELF, _ITSELF, {"name": str(name)[:100]})

    def description(self) -> str:
        """Return the description of the datastore."""
        return self._notes.get(_ITSELF, _ITSELF).get("description", "One image per patient, of up to four sequences")

    def set_description(self, description: str) -> None:
        """Set the description."""
        self._notes.update(_ITSELF, _ITSELF, {"description": str(description)[:1000]})

    def list_images(self) -> list[str]:
        """Return the ids of all cases."""
        return sorted(self.source.cases())

    def get_image_uri(self, image_id: str) -> str:
        """Return the path of the native file of the sequence that ``image_id`` refers to."""
        return str(self.library.image_file(image_id))

    def get_image(self, image_id: str, params: Any = None) -> io.BytesIO:
        """Return the content of the file of ``get_image_uri``."""
        return io.BytesIO(self.library.image_file(image_id).read_bytes())

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """Return which images were chosen and why, which are missing or left out, the notes, and, during the case's
        preparation, ``preparing``: its ``step``, and the ``seconds`` since the preparation began. Opens no image."""
        case, sequence = self.source.resolve(image_id)
        notes = self._notes.get(_IMAGES, case.case_id)
        if leases := self._leases.by_strategy(case.case_id):
            noted = notes.get("strategy")
            notes["strategy"] = {**(noted if isinstance(noted, dict) else {}), **leases}
        info = image_info(case, sequence, self.labels, notes)
        now = self.library.preparing(case.case_id)
        return info if now is None else info | {"preparing": now}

    def update_image_info(self, image_id: str, info: Mapping[str, Any]) -> None:
        """Add to the notes on a case."""
        self._notes.update(_IMAGES, self._case(image_id).case_id, info)

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Return the cases that have a label with this tag (default ``final``); ``labels`` is ignored."""
        return sorted(set(self.source.cases()) & set(self.labels.labelled(tag_of(label_tag))))

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Return the cases without such a label."""
        return sorted(set(self.source.cases()) - set(self.labels.labelled(tag_of(label_tag))))

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        """Return the label id for each tag that the case has."""
        case_id = self._case(image_id).case_id
        return {tag: case_id for tag in TAGS if self.labels.current(case_id, tag)}

    def get_label_by_image_id(self, image_id: str, tag: str) -> str:
        """Return the label id for a tag; "" if there is no such label."""
        return self.get_labels_by_image_id(image_id).get(tag_of(tag), "")

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Return the path of the label, on the grid of the sequence that ``label_id`` refers to."""
        case, sequence = self.source.resolve(label_id)
        revision = self.labels.in_use(case.case_id, label_tag)
        try:
            path = self._labelled.file(case, sequence, revision)
        except (ClientError, InputError):
            if sequence != case.reference:
                raise
            path = revision.path  # the stored file, whose header has its grid: the images may be gone
        return str(self.labels.current_path(case.case_id, revision.tag) if path == revision.path else path)

    def get_label(self, label_id: str, label_tag: str, params: Any = None) -> io.BytesIO:
        """Return the content of the file of ``get_label_uri``."""
        return io.BytesIO(Path(self.get_label_uri(label_id, label_tag)).read_bytes())

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """Return who saved the label, when and with which model, its volumes, and the notes."""
        case = self._case(label_id)
        revision = self.labels.in_use(case.case_id, label_tag)
        return label_info(case, revision, self._notes.get(_LABELS, f"{case.case_id}/{revision.number}"))

    def update_label_info(self, label_id: str, label_tag: str, info: Mapping[str, Any]) -> None:
        """Add to the notes on the current revision of a label; later revisions do not inherit them."""
        case = self._case(label_id)
        self._notes.update(_LABELS, f"{case.case_id}/{self.labels.in_use(case.case_id, label_tag).number}", info)

    def store_label(
        self,
        image_id: str,
        path: Path,
        tag: str,
        params: Mapping[str, Any] | None,
        facts: Mapping[str, Any] | None = None,
    ) -> StoredLabel:
        """Check and store a label, as ``save_label``, but return all that is known about it.

        Args:
            image_id, path, tag, params: as ``Submissions.submit``.
            facts: metadata from the app itself, added to the label's record.

        Raises:
            NotFound: for an unknown id.
            Refused, TooLarge: for a label that cannot be used; the previous label stays.
        """
        tag, params = tag_of(tag), params or {}
        effort = self._effort(image_id, params) if tag == FINAL else {}
        return self.submissions.submit(image_id, Path(path), tag, params, {**effort, **(facts or {})})

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Check and store a label; return the id of its case."""
        return self.store_label(image_id, Path(label_filename), label_tag, label_info).case.case_id

    def remove_label(self, label_id: str, label_tag: str, user: str = "") -> None:
        """Remove a label and record who removed it; its revisions are kept."""
        self.withdraw_label(label_id, label_tag, user)

    def withdraw_label(self, label_id: str, label_tag: str, user: str) -> StoredLabel:
        """Remove a label, as ``remove_label``, but return all that is known about the removal.

        Raises:
            NotFound: for an unknown id, or a case without this label.
        """
        return self.submissions.remove(label_id, tag_of(label_tag), user[:100] or "unknown")

    def restore_label(self, image_id: str, version: int, user: str) -> StoredLabel:
        """Store an earlier revision again as the newest; all revisions are kept.

        Raises:
            NotFound: for an unknown id or revision.
        """
        return self.submissions.restore(image_id, version, user[:100] or "unknown")

    def label_history(self, image_id: str) -> list[dict[str, Any]]:
        """Return the revisions of the labels of a case, oldest first."""
        history = self.labels.history(self._case(image_id).case_id)
        return [{"version": revision.number, "tag": revision.tag, **revision.record} for revision in history]

    def add_image(self, image_id: str, image_filename: str, image_info: Mapping[str, Any]) -> str:
        """Add an uploaded 4D file to the studies; return the id of its case."""
        case_id = add_case(self.source, self._studies, image_id, Path(image_filename))
        if image_info:
            self.update_image_info(case_id, image_info)
        return case_id

    def remove_image(self, image_id: str) -> None:
        """Raise ``Refused``: images are not deleted through the web."""
        self._case(image_id)
        raise Refused(
            "Images are not removed through the web. Take the case out of the studies folder, or delete the study on "
            "the DICOM server; its labels are kept."
        )

    def datalist(self) -> list[dict[str, Any]]:
        """Return an entry for each case with a final label, if it can be used; see ``labelled_cases``."""
        return self.labelled_cases()[0]

    def labelled_patients(self) -> dict[str, str]:
        """Return the patient of each case with a final label. Opens no file."""
        return self._labelled.patients()

    def labelled_cases(self) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        """Return an entry for each case with a final label, and the cases left out; see ``LabelledCases.entries``."""
        return self._labelled.entries()

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        """Return the path of a ZIP file of the labelled cases."""
        entries = self.datalist()[: limit_cases if limit_cases and limit_cases > 0 else None]
        if not entries:
            raise NotFound("No case has a final label yet, so there is nothing to download.")
        records = {entry["case"]: self.get_label_info(entry["case"], FINAL) for entry in entries}
        return str(write_archive(self.workspace.cache / "archives", entries, records))

    def refresh(self) -> None:
        """Scan the studies again, and import label files that users copied into the label folders."""
        self.source.refresh()
        self._import_found()

    def status(self) -> dict[str, Any]:
        """Return the numbers of cases and of labels, and the problems: unused label files, files and DICOM studies that
        form no case, undelivered labels, and labelled cases that the last training or download left out.
        """
        try:
            tags = {tag: len(self.get_labeled_images(tag)) for tag in TAGS}
        except Unreachable as error:  # clients ask for the status first, so report the error here
            return {"total": 0, "completed": 0, "label_tags": {}, "problems": [error.sentence]}
        return {
            "total": len(self.source.cases()),
            "completed": tags[FINAL],
            "label_tags": {tag: count for tag, count in tags.items() if count},
            "problems": [
                *self.labels.problems(),
                *self.source.problems(),
                *(self.outbox.problems() if self.outbox else ()),
                *self._labelled.problems(),
            ],
        }

    def json(self) -> dict[str, Any]:
        """Return all cases with their metadata and that of their labels."""
        objects = {}
        for case_id in self.list_images():
            labels = {tag: self.get_label_info(case_id, tag) for tag in self.get_labels_by_image_id(case_id)}
            objects[case_id] = {
                "image": {"ext": ENDING, "info": self.get_image_info(case_id)},
                "labels": {tag: {"ext": ENDING, "info": info} for tag, info in labels.items()},
            }
        return {"name": self.name(), "description": self.description(), "objects": objects}

    def _effort(self, image_id: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return for how long the annotator had leased the case, and the number of clicks and strokes, if known."""
        case_id, who = self._case(image_id).case_id, str(params.get("user") or params.get("client_id") or "")
        seconds, step = self._leases.seconds_held(case_id, who), self._prompts.current(case_id, who)
        effort = {} if seconds is None else {"seconds": round(seconds, 1)}
        if step is None:
            return effort
        return effort | {"clicks": sum(sum(step.answer.get(kind, {}).values()) for kind in ("clicks", "strokes"))}

    def _import_found(self) -> None:
        with self._taking:
            for revision in self.labels.import_found(self.submissions.check_found):
                logger.info("label of case %s found on disk, stored as %s", revision.case_id, revision.number)

    def _case(self, image_id: str) -> Case:
        return self.source.resolve(image_id)[0]
