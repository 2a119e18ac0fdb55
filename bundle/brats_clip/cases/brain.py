"""Brain extraction from a raw image."""

from __future__ import annotations

import functools
import threading

import nibabel as nib
import numpy as np

from ..errors import CaseError, InputError
from ..images import Volume

_LEAST_ML, _MOST_ML = 500.0, 2200.0  # plausible brain with CSF: from a small child's to above any adult's
_lock = threading.Lock()  # the extractor stores the bounding box of its current image


def extract_brain(volume: Volume) -> np.ndarray:
    """Return the brain mask ``(X, Y, Z)``, bool, on the grid of a raw T1 (or another sequence), by deepbet on the CPU.

    deepbet (Fisch et al., 2024, MIT) ships its weights in its package. A volume takes about 5 s on one core.

    Raises:
        CaseError: if no brain is found, or the volume found is implausible for a brain.
        InputError: if deepbet is not installed.
    """
    image = nib.Nifti1Image(np.ascontiguousarray(volume.array), volume.affine)
    with _lock:
        try:
            mask = np.asarray(_extractor().run(image)[1].dataobj) > 0
        except (AssertionError, ValueError, IndexError):  # its coarse or fine mask is empty
            mask = np.zeros(volume.array.shape, bool)
    ml = float(mask.sum()) * volume.grid.voxel_ml
    if not _LEAST_ML <= ml <= _MOST_ML:
        found = "no brain" if not mask.any() else f"a brain of {ml:.0f} ml"
        raise CaseError(volume.path, found, f"an image of a head, with a brain of {_LEAST_ML:g} to {_MOST_ML:g} ml")
    return mask


@functools.cache
def _extractor():
    try:
        from deepbet import BrainExtraction
    except ImportError as reason:
        advice = "deepbet (pip install --no-deps deepbet), or a brain mask given with --brain_mask"
        raise InputError("brain extraction", f"an import error ({reason})", advice) from reason
    return BrainExtraction(no_gpu=True)
