"""From an image id, words and clicks to a label map on the grid of what the client shows."""

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
from brats_clip.interactive.segmentation import Segmentation

from ..errors import Refused, TooLarge
from ..labels.naming import LABELS
from ..settings import Settings
from ..studies import Case, CaseSource
from . import AdmissionControl
from .options import CLICKS, TISSUES, as_output, present

if TYPE_CHECKING:
    from ..models import ModelRegistry, ModelVersion
    from ..studies.library import CaseLibrary


@dataclass(frozen=True)
class Prompt:
    """What a client asks for.

    Attributes:
        image_id: any id of the case; the answer lies on the grid of the sequence it shows.
        report: typed text; "" takes the report that lies with the case.
        use_report: False ignores every report.
        clicks: voxels ``[i, j, k]`` of the image shown, by the names of ``CLICKS``.
        output: a key of ``OUTPUTS``.
        sequences: those to use; the case may have fewer.
        allow_missing: whether fewer than four will do.
    """

    image_id: str
    report: str = ""
    use_report: bool = True
    clicks: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    output: str = TISSUES
    sequences: tuple[str, ...] = SEQUENCES
    allow_missing: bool = False


@dataclass(frozen=True)
class Answer:
    """A label map for the client, what is to be known about it, and the same on the grid it was computed on.

    Attributes:
        case: whose it is.
        label: numbers of ``LABELS``, uint8, on the grid of the image shown.
        reference_label: BraTS values, on the case's reference grid.
        params: plain JSON: volumes, consistency, sequences, seconds, model.
    """

    case: Case
    label: nib.Nifti1Image
    reference_label: nib.Nifti1Image
    params: dict[str, Any]


class SegmentationService:
    """One ``Segmenter`` per model version in use, shared by all clients.

    Args:
        settings: of the app.
        source: where reports are found.
        library: where images are found, on one grid.
        models: which weights are in use.
        admission: how many compute at a time.
        make: builds a ``Segmenter`` from a checkpoint.
        shared: a service whose ``Segmenter`` this one uses, for cases that come and go.
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
        """The network with the weights in use; they are loaded when they have changed."""
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
                    preprocess="never",  # the library has done it
                )
                self._loaded = (version.sha256, segmenter)
            return self._loaded[1], version

    def answer(self, prompt: Prompt) -> Answer:
        """Segment.

        Raises:
            ClientError: for anything in the prompt that cannot be answered.
        """
        started = time.perf_counter()
        case, shown = self.source.resolve(prompt.image_id)
        report, report_from = self._report(case, prompt)
        with self.admission.admit():
            # Before it takes a slot: a study that comes slowly must not keep others from computing.
            aligned = self.library.aligned(case)
            images = self.library.images(aligned)
            images = {s: images[s] for s in SEQUENCES if s in prompt.sequences and s in images}
            self._check_sequences(case, prompt, images)
            located = time.perf_counter() - started
            clicks = {CLICKS[name]: aligned.points_to_working(shown, ijk) for name, ijk in prompt.clicks.items() if ijk}
            with self.admission.slot():
                waited = time.perf_counter() - started - located
                segmenter, version = self.segmenter()
                # All lie on the working grid, so the answer does, whichever of them are used.
                key = segmenter.set_case(case=case.case_id, **images)
                result = segmenter.segment(report=report, clicks=clicks or None, case=key)
        reference_label = aligned.label_on(case.reference, result.label)
        seen = aligned.label_on(shown, result.label)
        output = as_output(np.asarray(seen.dataobj), prompt.output)
        seconds = {"waiting": waited, "files": located, **result.seconds, "total": time.perf_counter() - started}
        params = {
            "case": case.case_id,
            "image": prompt.image_id,
            "sequence_shown": shown,
            "label_names": present(output),
            "labels": LABELS,
            "volumes_ml": {region: round(ml, 3) for region, ml in result.volumes_ml.items()},
            "report": _report_params(report_from, result),
            "sequences_used": list(result.sequences_used),
            "sequences_missing": list(result.sequences_missing),
            "clicks": {name: len(ijk) for name, ijk in prompt.clicks.items() if ijk},
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
        return Answer(case, nib.Nifti1Image(output, seen.affine), reference_label, params)

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
            raise Refused(f"Sequences: found none to use; expected one at least of {', '.join(SEQUENCES)}.")
        if not files:
            raise Refused(f"Case {case.case_id}: found none of {', '.join(prompt.sequences)}; expected one at least.")
        lacking = [s for s in SEQUENCES if s not in files]
        if lacking and not (prompt.allow_missing or self.settings.allow_missing_sequences):
            raise Refused(
                f"Case {case.case_id}: found no {', '.join(lacking)}; expected all of {', '.join(SEQUENCES)}. "
                "Tick allow_missing_sequences in the options to segment it all the same."
            )


def _report_params(report_from: str, result: Segmentation) -> dict[str, Any]:
    """Where the report came from, whether it was used, and how well it agrees with the image."""
    params: dict[str, Any] = {"from": report_from, "used": result.report_used}
    consistency = result.consistency
    if consistency is not None:
        params["consistency"] = consistency.to_dict()
        params["warning"] = " ".join((*consistency.warnings, *consistency.notices))
    return params
