"""What the voxels of an answer are called, and the numbers they carry."""

from __future__ import annotations

import numpy as np

from brats_clip.labels import REGIONS

from ..dicom.segments import LABELS

TISSUES = "NCR/NET, ED and ET"
OUTPUTS: dict[str, tuple[str, ...]] = {TISSUES: ("NCR/NET", "ED", "ET"), "WT": ("WT",), "TC": ("TC",), "ET": ("ET",)}

# Whatever a viewer offers to click on, and what ``Segmenter`` calls it.
CLICKS: dict[str, str] = {"NCR/NET": "NCR", "ED": "ED", "ET": "ET", "TC": "TC", "WT": "WT", "background": "background"}


def as_output(label: np.ndarray, output: str) -> np.ndarray:
    """Turn a BraTS label map into what was asked for.

    Args:
        label: values 0, 1, 2, 4.
        output: a key of ``OUTPUTS``; a region comes as its one number.
    """
    if output == TISSUES:
        return label
    return np.where(np.isin(label, REGIONS[output]), LABELS[output], 0).astype(np.uint8)


def present(label: np.ndarray) -> dict[str, int]:
    """Names of the numbers that occur, in the order of the numbers: viewers name segments by their position."""
    values = set(np.unique(label).tolist())
    return {name: value for name, value in sorted(LABELS.items(), key=lambda item: item[1]) if value in values}
