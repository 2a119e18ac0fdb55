"""Write a phantom in the file layout of BraTS."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to

from .contrast import SEQUENCES
from .patient import Phantom

BRATS_SIZE, BRATS_SPACING = (240, 240, 155), (1.0, 1.0, 1.0)
SCALE = 1000  # integer intensity of white matter on T1 in the files


def brats_affine(size: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
    """Return the affine of BraTS 2017-2022 files: LPS, with the first voxel at the largest y."""
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[1, 3] = (size[1] - 1) * spacing[1]
    return affine


def to_grid(
    volume: np.ndarray, affine: np.ndarray, size: Sequence[int], spacing: Sequence[float], order: int
) -> nib.Nifti1Image:
    """Place an RAS volume ``(X, Y, Z)`` in the middle of a BraTS-like grid of ``size`` voxels of ``spacing`` mm.

    A 1 mm grid is filled by copying, others by resampling with spline ``order`` (0 for labels).
    """
    target = brats_affine(size, spacing)
    centre = target @ [*(np.asarray(size) // 2), 1]
    source = affine.copy()
    source[:3, 3] += centre[:3] - (source @ [*(np.asarray(volume.shape) // 2), 1])[:3]
    image = nib.Nifti1Image(volume, source)
    if tuple(spacing) != (1.0, 1.0, 1.0):
        return nib.Nifti1Image(resample_from_to(image, (tuple(size), target), order=order).get_fdata(), target)
    flipped = volume[::-1, ::-1]
    start = np.rint(np.linalg.solve(target, source @ [volume.shape[0] - 1, volume.shape[1] - 1, 0, 1])).astype(int)[:3]
    out = np.zeros(size, volume.dtype)
    low, high = np.maximum(start, 0), np.minimum(start + volume.shape, size)
    inside = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
    out[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = flipped[inside]
    return nib.Nifti1Image(out, target)


@contextmanager
def case_folder(folder: Path, case: str) -> Iterator[Path]:
    """Yield an empty folder that becomes ``folder/case``, in place of an earlier one, if the block succeeds."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{case}.") as temporary:
        draft = Path(temporary) / case
        draft.mkdir()
        yield draft
        if (folder / case).exists():
            shutil.rmtree(folder / case)
        draft.rename(folder / case)


def write_phantom(
    phantom: Phantom,
    folder: Path,
    case: str,
    size: Sequence[int] = BRATS_SIZE,
    spacing: Sequence[float] = BRATS_SPACING,
) -> Path:
    """Write ``folder/CASE/CASE_{t1,t1ce,t2,flair,seg}.nii.gz``, ``CASE_report.txt`` and ``CASE_findings.json``.

    An interrupted call leaves no incomplete case folder.
    """
    with case_folder(folder, case) as draft:
        stored = np.clip(np.rint(phantom.image * SCALE), 0, np.iinfo(np.int16).max).astype(np.int16)
        volumes = {s: (stored[i], 1) for i, s in enumerate(SEQUENCES)} | {"seg": (phantom.label, 0)}
        for name, (volume, order) in volumes.items():
            image = to_grid(volume, phantom.affine, size, spacing, order)
            image = nib.Nifti1Image(np.rint(np.asarray(image.dataobj)).astype(volume.dtype), image.affine)
            image.header.set_xyzt_units("mm", "sec")
            nib.save(image, draft / f"{case}_{name}.nii.gz")
        (draft / f"{case}_report.txt").write_text(phantom.report + "\n", encoding="utf-8")
        findings = json.dumps(phantom.findings.to_dict(), indent=2)
        (draft / f"{case}_findings.json").write_text(findings + "\n", encoding="utf-8")
    return Path(folder) / case
