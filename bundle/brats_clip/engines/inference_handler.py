"""Write the results of inference: one folder per case, with the label map and its metadata."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Hashable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import monai
import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine, Events
from nibabel.affines import voxel_sizes

from .. import __version__
from ..cases import REFERENCE, SEQUENCES, Preparation, split_channel, undo_resolver
from ..errors import InputError
from ..evaluation.case_metrics import region_volumes_ml
from ..evaluation.run_info import sha256_of
from ..images import atomic_write, new_image, read_header
from ..labels import BRATS_2018, CONVENTIONS, ED, ET, NCR, REGIONS, from_internal
from ..quality import Assessment
from ..reports import Consistency
from .finished_items import affine_of, case_of, check_same_place, finished_items, label_of

logger = logging.getLogger(__name__)

_MEANING = {
    0: "background",
    NCR: "necrotic or non-enhancing tumour core (NCR)",
    ED: "oedema (ED)",
    ET: "enhancing tumour (ET)",
}
_REGION_MEANING = {
    "WT": "whole tumour: NCR, ED and ET",
    "TC": "tumour core: NCR and ET",
    "ET": "enhancing tumour: ET",
}


class CaseWriter:
    """Handler that writes ``OUT/CASE/CASE_seg.nii.gz`` and ``OUT/CASE/CASE.json`` after each iteration.

    The images have the geometry of the input: shape, affine and header codes of the T1ce, ``uint8``. For a case that
    had to be prepared, they are on its working grid, and each sequence with a different native grid gets its own file,
    such as ``CASE_t2_seg.nii.gz``. Files are written atomically and the JSON last, so a case that has its JSON is
    complete; a failed case leaves no files. Attach it before other handlers of the iteration: the recorded seconds run
    from the start of the iteration to this handler.

    Args:
        output_dir: folder of the results; created if missing.
        labels: ``"brats"`` for one label map, ``"regions"`` for three nested binary maps ``CASE_WT.nii.gz``,
            ``CASE_TC.nii.gz`` and ``CASE_ET.nii.gz``.
        convention: label convention of the label map, a key of ``labels.CONVENTIONS``.
        weights: the weights file in use; its name and SHA-256 are recorded.
        clip_fingerprint: ``ClipEncoder.fingerprint``, recorded.
        pred_key: label map (1, X, Y, Z) in the geometry of the input, a MetaTensor, values 0, 1, 2, 4.
        case_key, report_key: id and report text of the case.
        report_path_key: path of the report file; without one, the report was typed.

    Raises:
        InputError: for unknown ``labels`` or ``convention``.
        WeightsError: if the weights file is missing.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike,
        labels: Literal["brats", "regions"] = "brats",
        convention: str = BRATS_2018,
        weights: str | os.PathLike | None = None,
        clip_fingerprint: str | None = None,
        pred_key: str = "pred",
        case_key: str = "case",
        report_key: str = "report",
        report_path_key: str = "report_path",
    ) -> None:
        if labels not in ("brats", "regions"):
            raise InputError("labels", repr(labels), "'brats' or 'regions'")
        if convention not in CONVENTIONS:
            raise InputError("convention", repr(convention), f"one of {', '.join(map(repr, CONVENTIONS))}")
        self.output_dir = undo_resolver(output_dir)
        self.labels, self.convention = labels, convention
        self.pred_key, self.case_key = pred_key, case_key
        self.report_key, self.report_path_key = report_key, report_path_key
        self._software = {
            "brats_clip": __version__,
            "monai": monai.__version__,
            "torch": torch.__version__,
            "weights": None if weights is None else Path(weights).name,
            "weights_sha256": None if weights is None else sha256_of(weights),
            "clip_fingerprint": clip_fingerprint,
        }
        self._started = time.perf_counter()

    def attach(self, engine: Engine) -> None:
        """Write after each iteration of an evaluator that decollates."""
        engine.add_event_handler(Events.ITERATION_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def _start(self, engine: Engine) -> None:
        self._started = time.perf_counter()

    def __call__(self, engine: Engine) -> None:
        items = finished_items(engine)
        seconds = (time.perf_counter() - self._started) / len(items)
        inferer, none = getattr(engine, "inferer", None), [None] * len(items)
        screened, assessed = (getattr(inferer, name, None) or none for name in ("consistencies", "assessments"))
        for item, consistency, assessment in zip(items, screened, assessed, strict=True):
            item |= {"consistency": consistency, "assessment": assessment}
            self.write(item, device=str(getattr(engine.state, "device", "")) or None, seconds=seconds)

    def write(self, item: Mapping[Hashable, Any], device: str | None = None, seconds: float | None = None) -> Path:
        """Write one case and return its folder.

        Args:
            item: the case with its prediction; ``consistency`` and ``assessment`` are recorded if present.
            device: device on which the network ran.
            seconds: time of network and post-processing.

        Raises:
            InputError: if the id cannot name a folder or the prediction has no geometry.
            LabelError: if the prediction is not a label map, or not on the grid of the T1ce.
        """
        case = case_of(item, self.case_key)
        label = label_of(item, self.pred_key, case)
        preparation = Preparation.from_json(item["preparation"]) if item.get("preparation") else None
        affine, header = self._geometry(item, label.shape, case, preparation)
        volumes = region_volumes_ml(label, voxel_sizes(affine))
        arrays = self._arrays(case, label)
        native = self._native(case, label, preparation)
        facts = {
            "case": case,
            "volumes_ml": {region: round(volume, 3) for region, volume in volumes.items()},
            **(item["assessment"].to_dict() if item.get("assessment") else {}),
            "files": {name: meaning for name, (_, meaning) in arrays.items()},
            "native_files": {name: sequence for name, (sequence, _) in native.items()},
            "shape": list(label.shape),
            "voxel_mm": [round(float(size), 4) for size in voxel_sizes(affine)],
            "read": {s: Path(str(item[s])).name for s in SEQUENCES if isinstance(item.get(s), str | os.PathLike)},
            "sequences_missing": [s for s in str(item.get("sequences_missing") or "").split(", ") if s],
            "notes": [note for note in str(item.get("notes") or "").split("\n") if note],
            "report": self._report(item),
            "clicks": json.loads(item.get("clicks_given") or "[]"),
            **self._software,
            "device": device,
            "seconds": None if seconds is None else round(seconds, 2),
            "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "notice": "Research use only: not a medical device.",
        }
        folder = self.output_dir / case
        new = not folder.exists()
        try:
            with ExitStack() as files:  # closed in reverse order: the JSON is renamed last
                text = files.enter_context(atomic_write(folder / f"{case}.json"))
                for name, (array, _) in arrays.items():
                    nib.save(new_image(array, affine, header), files.enter_context(atomic_write(folder / name)))
                for name, (sequence, array) in native.items():
                    image = new_image(array, preparation.native[sequence].affine)
                    nib.save(image, files.enter_context(atomic_write(folder / name)))
                text.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        except BaseException:
            if new and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
            raise
        sizes = ", ".join(f"{region} {volume:.1f} ml" for region, volume in volumes.items())
        took = "" if seconds is None else f" ({seconds:.1f} s)"
        logger.info("%s: %s%s -> %s", case, sizes, took, folder)
        self._note(case, item.get("assessment"))
        self._warn(case, item.get("consistency"))
        return folder

    def _note(self, case: str, assessment: Assessment | None) -> None:
        """Log the expected quality of the result, and the first place to check."""
        if assessment is not None:
            expected = ", ".join(f"{region} {dice:.2f}" for region, dice in assessment.expected_dice.items())
            first = "".join(f"; look at {place['text']}" for place in assessment.look_here[:1])
            caveat = "" if assessment.fitted else " (not fitted for these weights)"
            logger.info("%s: expected Dice %s%s%s", case, expected, caveat, first)

    def _warn(self, case: str, consistency: Consistency | None) -> None:
        """Log how the report disagrees with the image, without quoting the report."""
        if consistency is not None and not consistency.same_place:
            logger.warning("%s: the report was not used. %s", case, " ".join(consistency.warnings))
        elif consistency is not None and consistency.warnings:
            logger.warning("%s: the report was used, but not all of it fits. %s", case, " ".join(consistency.warnings))
        elif consistency is not None and consistency.notices:
            logger.warning("%s: %s", case, " ".join(consistency.notices))

    def _arrays(self, case: str, label: np.ndarray) -> dict[str, tuple[np.ndarray, Any]]:
        """Return the array and the meaning of its values by file name."""
        if self.labels == "regions":
            masks = {region: np.isin(label, values).astype(np.uint8) for region, values in REGIONS.items()}
            return {f"{case}_{r}.nii.gz": (m, {"0": "outside", "1": _REGION_MEANING[r]}) for r, m in masks.items()}
        meaning = {str(stored): _MEANING[internal] for stored, internal in CONVENTIONS[self.convention].items()}
        stored = from_internal(label, self.convention)
        return {f"{case}_seg.nii.gz": (stored, {"convention": self.convention, "values": meaning})}

    def _native(
        self, case: str, label: np.ndarray, preparation: Preparation | None
    ) -> dict[str, tuple[str, np.ndarray]]:
        """Return sequence and array by file name, for each sequence with a different native grid."""
        found = {}
        for sequence in preparation.resampled_sequences if preparation else ():
            arrays = self._arrays(case, preparation.to_native(label, sequence))
            found |= {f"{case}_{sequence}{name[len(case) :]}": (sequence, a) for name, (a, _) in arrays.items()}
        return found

    def _geometry(
        self, item: Mapping[Hashable, Any], shape: tuple[int, ...], case: str, preparation: Preparation | None
    ) -> tuple[np.ndarray, nib.Nifti1Header | None]:
        """Return affine and header of the T1ce file (without T1ce, of the first sequence), or the affine of the
        prediction if no file is named."""
        affine = affine_of(item, self.pred_key, case)
        source = next((item[s] for s in (REFERENCE, *SEQUENCES) if item.get(s)), None)
        if preparation is not None and preparation.reference in preparation.resampled_sequences:
            check_same_place(case, (shape, affine), (preparation.working.shape, preparation.working.affine), "the case")
            return preparation.working.affine, None
        if preparation is not None:
            source = item[preparation.reference]
        if not isinstance(source, str | os.PathLike):
            return affine, None
        path, _ = split_channel(source)
        stored = read_header(path)
        check_same_place(case, (shape, affine), (stored.shape[:3], stored.affine), Path(path).name)
        if stored.nifti is None:
            return stored.affine, None
        header = stored.nifti.copy()
        header["descrip"] = b"brats_clip: research use only"
        header["cal_min"] = header["cal_max"] = 0  # with the display window of an MRI, a label map would look black
        return stored.affine, header

    def _report(self, item: Mapping[Hashable, Any]) -> dict[str, Any]:
        given = bool(str(item.get(self.report_key) or "").strip())
        path = item.get(self.report_path_key)
        source = Path(str(path)).name if path else "typed"
        facts = {"given": given, "source": source if given else None}
        consistency = item.get("consistency")
        if consistency is None:
            return {**facts, "used": given}
        return {**facts, "used": consistency.same_place, "consistency": consistency.to_dict()}
