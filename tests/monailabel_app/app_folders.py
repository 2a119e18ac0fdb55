"""Write phantoms and tiny cases in the layouts that a studies folder may have."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np

from brats_clip.cases import SEQUENCES

FREE = {"t1": "T1_pre.nii.gz", "t1ce": "ax T1 post.nii.gz", "t2": "T2w.nii.gz", "flair": "3D-T2.FLAIR.nii.gz"}


def copy_cases(data_set, studies: Path) -> None:
    """Copy the cases of the ``tiny_data_set`` fixture unchanged."""
    for case in data_set.cases:
        shutil.copytree(data_set.folder / case, studies / case)


def as_brats(phantom: Path, studies: Path, case: str) -> Path:
    """Copy a phantom's folder under another name, without its findings."""
    folder = studies / case
    folder.mkdir(parents=True)
    for path in phantom.iterdir():
        if not path.name.endswith("_findings.json"):
            shutil.copy(path, folder / path.name.replace(phantom.name, case))
    return folder


def as_free(phantom: Path, studies: Path, patient: str, names: dict[str, str] = FREE) -> Path:
    """Copy a phantom's four sequences under free names."""
    folder = studies / patient
    folder.mkdir(parents=True)
    for sequence, name in names.items():
        shutil.copy(phantom / f"{phantom.name}_{sequence}.nii.gz", folder / name)
    return folder


def as_four_d(phantom: Path, path: Path, order: tuple[str, ...] = ("flair", "t1", "t1ce", "t2")) -> Path:
    """Stack a phantom's four sequences into one file."""
    images = [nib.load(phantom / f"{phantom.name}_{sequence}.nii.gz") for sequence in order]
    stack = np.stack([np.asarray(image.dataobj) for image in images], axis=-1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(stack, images[0].affine), path)
    return path


def voxels(path: Path) -> np.ndarray:
    """Voxels of a file."""
    return np.asarray(nib.load(path).dataobj)


def tiny_image(path: Path, shape: tuple[int, ...] = (4, 5, 6), seed: int = 0) -> Path:
    """Write an image of a few voxels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).integers(1, 100, shape).astype(np.int16)
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return path


def tiny_case(folder: Path, case: str, ending: str = "_{}.nii.gz", sequences: tuple[str, ...] = SEQUENCES) -> None:
    """Write a BraTS-named case of a few voxels."""
    for number, sequence in enumerate(sequences):
        tiny_image(folder / f"{case}{ending.format(sequence)}", seed=number)


def describe(path: Path, **content: object) -> None:
    """Write a ``dataset.json``."""
    (path / "dataset.json").write_text(json.dumps(content))
