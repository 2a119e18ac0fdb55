"""Load a case from its named files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from monai.utils import ImageMetaKey, MetaKeys, SpaceKeys

from ..cases import PREPROCESS_MODES, REFERENCE, SEQUENCES, Volume, read_case
from ..errors import InputError, LabelError
from ..switches import read_switch


class LoadCased(Transform):
    """Read and check the four sequences, label and report of a case dictionary.

    Adds to the dictionary:

    - ``image``: MetaTensor (4, X, Y, Z), float32, sequences in the order of ``cases.SEQUENCES``, with the affine and
      file name of the T1ce, whose grid is used throughout: the output of ``Invertd`` and ``SaveImaged`` has its
      geometry. A missing sequence is zero; without T1ce, the first available sequence takes its place.
    - ``sequences_missing``: names of the missing sequences, separated by commas; "" if none is missing.
    - ``label``: MetaTensor (1, X, Y, Z), uint8, with 0 background, 1 NCR, 2 ED, 4 ET. Replaces the label's path; no
      such key if there is no label.
    - ``convention``: the label convention of the file (a key of ``labels.CONVENTIONS``), "" without a label.
    - ``notes``: what was done to the images, one sentence per line.
    - ``preparation``: ``cases.Preparation`` as JSON, with ``image`` and ``label`` on its working grid; "" for images
      that were skull-stripped and on one grid already.
    - ``report``: the text, read from ``report_path`` unless the case already has it; "" without a report.
    - ``report_path``: the file that the report was read from; "" for a typed text or without a report.

    Args:
        allow_missing_label: accept cases without a label.
        allow_missing_sequences: accept cases with one to three sequences; the texts "true" and "false" are understood.
        preprocess: "auto", "always" or "never": whether to register, strip and resample raw images; see
            ``cases.prepare``. A ``brain_mask`` of the case then replaces brain extraction.
        use_label: False ignores the label of the case.

    Raises:
        CaseError: the ``problem`` of the case, if it has one; if a sequence is missing (unless allowed) or
            unreadable, not 3D, on another grid, not finite or constant, or cannot be prepared.
        LabelError: if the label is missing (unless allowed), unreadable, on another grid or has unknown values.
        ReportError: if the report is empty or not text.
    """

    def __init__(
        self,
        allow_missing_label: bool = True,
        allow_missing_sequences: bool | str = False,
        preprocess: str = "never",
        use_label: bool = True,
    ) -> None:
        self.allow_missing_label = allow_missing_label
        self.allow_missing_sequences = read_switch("allow_missing_sequences", allow_missing_sequences)
        if preprocess not in PREPROCESS_MODES:
            raise InputError("preprocess", repr(preprocess), f"one of {', '.join(PREPROCESS_MODES)}")
        self.preprocess, self.use_label = preprocess, use_label

    def __call__(self, data: Mapping) -> dict:
        if data.get("problem"):
            raise data["problem"]
        if not self.allow_missing_label and not data.get("label"):
            raise LabelError(f"case {data.get('case') or data.get(REFERENCE)}", "no label", "a label map")
        if not self.use_label:
            data = {key: value for key, value in data.items() if key != "label"}
        content = read_case(
            dict(data), allow_missing_sequences=self.allow_missing_sequences, preprocess=self.preprocess
        )
        reference = content.volumes.get(REFERENCE) or next(iter(content.volumes.values()))
        image = np.zeros((len(SEQUENCES), *reference.array.shape), np.float32)
        for channel, sequence in zip(image, SEQUENCES, strict=True):
            if sequence in content.volumes:
                channel[...] = content.volumes[sequence].array
        result = {key: value for key, value in data.items() if key not in ("label", "note")}
        result["image"] = _with_geometry(image, reference, reference.path)
        if content.label is not None:
            result["label"] = _with_geometry(np.ascontiguousarray(content.label)[None], reference, data["label"])
        result["sequences_missing"] = ", ".join(s for s in SEQUENCES if s not in content.volumes)
        result["convention"] = content.label_convention
        result["notes"] = "\n".join(content.notes)
        result["preparation"] = content.preparation.to_json() if content.preparation else ""
        result["report"] = content.report
        result["report_path"] = "" if data.get("report") is not None else str(data.get("report_path") or "")
        return result


def _with_geometry(array: np.ndarray, reference: Volume, path: str) -> MetaTensor:
    """Attach the metadata that MONAI's own loader attaches, so that inverting and saving work."""
    meta = {
        MetaKeys.ORIGINAL_AFFINE: reference.affine.copy(),
        MetaKeys.SPATIAL_SHAPE: np.asarray(array.shape[1:]),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.ORIGINAL_CHANNEL_DIM: 0,
        ImageMetaKey.FILENAME_OR_OBJ: str(Path(path)),
    }
    return MetaTensor(torch.from_numpy(array), affine=torch.from_numpy(reference.affine.copy()), meta=meta)
