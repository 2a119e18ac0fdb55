"""Segment a case, guided by a report, clicks and strokes; the label map is on the grid of the displayed image."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from brats_clip import Segmenter
from brats_clip.cases import SEQUENCES
from brats_clip.clicks.place import MAX_CLICKS
from brats_clip.clicks.strokes import stroke_clicks
from brats_clip.interactive.segmentation import Segmentation

from ..errors import Refused, TooLarge
from ..labels.naming import LABELS
from ..labels.validation import volumes_ml
from ..prompt_history import Step
from ..settings import Settings
from ..studies import Case, CaseSource
from . import AdmissionControl
from .corrections import corrected, places_on, stroke_voxels
from .options import CLICKS, TISSUES, present_labels, to_output

if TYPE_CHECKING:
    from ..models import ModelRegistry, ModelVersion
    from ..studies.aligned import Aligned
    from ..studies.library import CaseLibrary


@dataclass(frozen=True)
class Prompt:
    """A request for a segmentation.

    Attributes:
        image_id: id of the case or of a sequence, the "displayed image"; the answer is on its grid.
        report: typed text; "" uses the report stored with the case.
        use_report: False ignores every report.
        clicks: voxels ``[i, j, k]`` of the displayed image, by the names of ``CLICKS``.
        strokes: polylines of such voxels, by the same names; where a click and a stroke disagree, the click wins.
        keep: regions that must not change.
        output: a key of ``OUTPUTS``.
        sequences: those to use; the case may have fewer.
        allow_missing: whether to segment with fewer than four.
    """

    image_id: str
    report: str = ""
    use_report: bool = True
    clicks: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    strokes: Mapping[str, Sequence[Sequence[Sequence[float]]]] = field(default_factory=dict)
    keep: tuple[str, ...] = ()
    output: str = TISSUES
    sequences: tuple[str, ...] = SEQUENCES
    allow_missing: bool = False


@dataclass(frozen=True)
class Answer:
    """A label map for the client, its metadata, and the same label map on the reference and the working grid.

    Attributes:
        case: the case that was segmented.
        label: numbers of ``LABELS``, uint8, on the grid of the displayed image.
        reference_label: BraTS values, on the case's reference grid.
        params: plain JSON: volumes, consistency, sequences, seconds, model.
        working_label: ``(X, Y, Z)`` uint8, BraTS values, on the working grid.
    """

    case: Case
    label: nib.Nifti1Image
    reference_label: nib.Nifti1Image
    params: dict[str, Any]
    working_label: np.ndarray


class SegmentationService:
    """One ``Segmenter`` per model version in use, shared by all clients.

    Args:
        settings: of the app.
        source: of the reports.
        library: of the images, on one grid.
        models: the registry with the weights in use.
        admission: limits how many requests compute at a time.
        make: builds a ``Segmenter`` from a checkpoint.
        shared: a service whose ``Segmenter`` this one uses, for temporary cases.
    """

    def __init__(
        self,
        settings: Settings,
        source: CaseSource,
        library: CaseLibrary,
        models: ModelRegistry,
        admission: AdmissionControl,
        make: Callable[..., Segmenter] = Segmenter,
        shared: SegmentationService | None = None,
    ) -> None:
        self.settings, self.source, self.library, self.models = settings, source, library, models
        self.admission = admission
        self._make, self._lock, self._shared = make, threading.Lock(), shared
        self._loaded: tuple[str, Segmenter] | None = None

    def segmenter(self) -> tuple[Segmenter, ModelVersion]:
        """Return the ``Segmenter`` with the weights in use, and their version; load them if they have changed."""
        if self._shared is not None:
            return self._shared.segmenter()
        version = self.models.current()
        with self._lock:
            if self._loaded is None or self._loaded[0] != version.sha256:
                segmenter = self._make(
                    bundle=self.settings.bundle or None,
                    checkpoint=version.path,
                    device=self.settings.device or None,
                    cache_bytes=int(self.settings.cache_gb * 2**30),
                    preprocess="never",  # the library has already done it
                )
                # A batch pauses between two layers, so that it does not slow down requests of users.
                for module in segmenter.modules():
                    module.register_forward_pre_hook(lambda *_: self.admission.give_way())
                self._loaded = (version.sha256, segmenter)
            return self._loaded[1], version

    def answer(self, prompt: Prompt, before: np.ndarray | nib.Nifti1Image | None = None) -> Answer:
        """Segment a case.

        Args:
            prompt: the request.
            before: label that ``prompt.keep`` refers to: on the working grid (array), or as stored (NIfTI).

        Raises:
            ClientError: if the request cannot be fulfilled.
        """
        started = time.perf_counter()
        case, shown = self.source.resolve(prompt.image_id)
        report, report_from = self._report(case, prompt)
        with self.admission.admit(case.case_id):
            # Before the request takes a slot: a slow download must not block others.
            aligned = self.library.aligned(case)
            images = self.library.images(aligned)
            images = {s: images[s] for s in SEQUENCES if s in prompt.sequences and s in images}
            self._check_sequences(case, prompt, images)
            located = time.perf_counter() - started
            grid, prompts = aligned.preparation.working, stroke_voxels(aligned, shown, prompt.strokes)
            clicks = []
            for kind, line in prompts:
                most = (MAX_CLICKS - sum(map(len, prompt.clicks.values()))) // len(prompts)
                clicks += [(kind, voxel) for voxel in stroke_clicks(line, grid.spacing, most).tolist()]
            for name, ijk in prompt.clicks.items():
                points = aligned.points_to_working(shown, ijk)
                clicks += [(CLICKS[name], point) for point in points]
                prompts += [(CLICKS[name], np.rint(points).astype(int).reshape(-1, 3))] if prompt.strokes else []
            with self.admission.slot():
                waited = time.perf_counter() - started - located
                segmenter, version = self.segmenter()
                # All images are on the working grid, and so is the result, whichever of them are used.
                key = segmenter.set_case(case=case.case_id, **images)
                result = segmenter.segment(report=report, clicks=clicks or None, case=key)
                quality = result.quality.to_dict()
        label = corrected(result.label, prompts, prompt.keep, _on_working(aligned, before))
        volumes = result.volumes_ml if label is result.label else volumes_ml(label, grid)
        seconds = {"waiting": waited, "files": located, **result.seconds, "total": time.perf_counter() - started}
        params = {
            "case": case.case_id,
            "image": prompt.image_id,
            "labels": LABELS,
            "output": prompt.output,
            "volumes_ml": {region: round(ml, 3) for region, ml in volumes.items()},
            **quality,
            "report": _report_params(report_from, result),
            "sequences_used": list(result.sequences_used),
            "sequences_missing": list(result.sequences_missing),
            "clicks": {name: len(ijk) for name, ijk in prompt.clicks.items() if ijk},
            "strokes": {name: len(lines) for name, lines in prompt.strokes.items()},
            "kept": list(prompt.keep),
            "seconds": {name: round(value, 4) for name, value in seconds.items()},
            "model": {"version": version.name, "sha256": version.sha256},
            "notes": [
                *case.info.get("notes", ()),
                *aligned.preparation.notes,
                *result.notes,
                *([f"Segmented without {', '.join(result.sequences_missing)}."] if result.sequences_missing else []),
            ],
        }
        params["warning"] = params["report"].get("warning", "")
        return _shown(case, aligned, shown, label, params)

    def answer_again(self, image_id: str, step: Step) -> Answer:
        """Return an earlier answer, on the grid of the image that is displayed now.

        Raises:
            ClientError: if the case does not exist any more, or is on another grid than the answer.
        """
        case, shown = self.source.resolve(image_id)
        params = {**step.answer, "image": image_id, "history": {"step": step.number, "of": step.total}}
        with self.admission.admit(case.case_id):
            return _shown(case, self.library.aligned(case), shown, step.label, params)

    def _report(self, case: Case, prompt: Prompt) -> tuple[str, str]:
        if not prompt.use_report:
            return "", "not used"
        if len(prompt.report) > self.settings.max_report_chars:
            raise TooLarge(
                f"report: found {len(prompt.report)} characters; expected at most {self.settings.max_report_chars}."
            )
        if prompt.report.strip():
            return prompt.report, "typed"
        found = self.source.report(case)
        return (found, "found with the case") if found else ("", "none")

    def _check_sequences(self, case: Case, prompt: Prompt, files: Mapping) -> None:
        if not prompt.sequences:
            raise Refused(f"Sequences: found none to use; expected at least one of {', '.join(SEQUENCES)}.")
        if not files:
            raise Refused(f"Case {case.case_id}: found none of {', '.join(prompt.sequences)}; expected at least one.")
        lacking = [s for s in SEQUENCES if s not in files]
        if lacking and not (prompt.allow_missing or self.settings.allow_missing_sequences):
            raise Refused(
                f"Case {case.case_id}: found no {', '.join(lacking)}; expected all of {', '.join(SEQUENCES)}. "
                "Tick allow_missing_sequences in the options to segment it all the same."
            )


def _shown(case: Case, aligned: Aligned, shown: str, label: np.ndarray, params: dict[str, Any]) -> Answer:
    """Return the answer for the image that is displayed."""
    seen = aligned.label_on(shown, label)
    output = to_output(np.asarray(seen.dataobj), params["output"])
    params |= {"sequence_shown": shown, "label_names": present_labels(output)}
    params["look_here"] = places_on(aligned, shown, params["look_here"])
    reference = aligned.label_on(case.reference, label)
    return Answer(case, nib.Nifti1Image(output, seen.affine), reference, params, label)


def _on_working(aligned: Aligned, before: np.ndarray | nib.Nifti1Image | None) -> np.ndarray | None:
    """Return the label to keep regions of, on the working grid; a stored one is on the native reference grid."""
    if before is None or isinstance(before, np.ndarray):
        return before
    array = np.asarray(before.dataobj).astype(np.uint8)
    return np.asarray(aligned.label_from(aligned.reference, array, before.affine, to=None)).astype(np.uint8)


def _report_params(report_from: str, result: Segmentation) -> dict[str, Any]:
    """Return where the report came from, whether it was used, and how well it agrees with the image."""
    params: dict[str, Any] = {"from": report_from, "used": result.report_used}
    consistency = result.consistency
    if consistency is not None:
        params["consistency"] = consistency.to_dict()
        params["warning"] = " ".join((*consistency.warnings, *consistency.notices))
    return params
