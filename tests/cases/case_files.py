"""Write small synthetic cases in the layouts of public data sets."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

SHAPE = (24, 28, 20)
# Two of the axes flipped, anisotropic and off the origin, so that a lost affine is detected.
AFFINE = np.array([[-1.0, 0, 0, 11], [0, -1.0, 0, 30], [0, 0, 1.5, -7], [0, 0, 0, 1]])
ENDINGS = {
    "2021": {"t1": "_t1", "t1ce": "_t1ce", "t2": "_t2", "flair": "_flair", "label": "_seg", "report": "_report"},
    "2023": {"t1": "-t1n", "t1ce": "-t1c", "t2": "-t2w", "flair": "-t2f", "label": "-seg", "report": "-report"},
}
LEVELS = {"t1": 100, "t1ce": 200, "t2": 300, "flair": 400}


def make_image(level: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Return a noisy block of mean ``level`` on a zero background."""
    image = np.zeros(shape, np.int16)
    noise = np.random.default_rng(level).integers(-20, 20, [size - 8 for size in shape])
    image[(slice(4, -4),) * len(shape)] = level + noise
    return image


def make_label(et: int = 4, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Return nested blocks: oedema (2) around core (1) around enhancing tumour (``et``)."""
    label = np.zeros(shape, np.uint8)
    label[6:16, 6:16, 6:16] = 2
    label[8:14, 8:14, 8:14] = 1
    label[10:12, 10:12, 10:12] = et
    return label


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def write_case(
    root: Path,
    case: str = "BraTS2021_00000",
    naming: str = "2021",
    extension: str = ".nii.gz",
    label: bool | np.ndarray = True,
    report: str | None = None,
) -> dict:
    """Write ``root/case/case_t1.nii.gz`` and so on; return the case dict."""
    endings, folder = ENDINGS[naming], root / case
    paths = {s: write_nifti(folder / f"{case}{endings[s]}{extension}", make_image(LEVELS[s])) for s in LEVELS}
    if label is not False:
        array = make_label(4 if naming == "2021" else 3) if label is True else label
        paths["label"] = write_nifti(folder / f"{case}{endings['label']}{extension}", array)
    if report is not None:
        paths["report_path"] = folder / f"{case}{endings['report']}.txt"
        paths["report_path"].write_text(report, encoding="utf-8")
    return {"case": case, **{key: str(path) for key, path in paths.items()}}


def write_msd_case(root: Path, case: str = "BRATS_001", labelled: bool = True) -> dict:
    """Write a 4D image in the MSD's channel order FLAIR, T1, T1ce, T2, and its label; return the case dict."""
    order = ("flair", "t1", "t1ce", "t2")
    image = np.stack([make_image(LEVELS[sequence]) for sequence in order], axis=-1)
    path = write_nifti(root / ("imagesTr" if labelled else "imagesTs") / f"{case}.nii.gz", image)
    found = {"case": case, **{sequence: f"{path}#{order.index(sequence)}" for sequence in LEVELS}}
    if labelled:
        found["label"] = str(write_nifti(root / "labelsTr" / f"{case}.nii.gz", make_label(et=3)))
    return found


def write_t1s(folder: Path, t1: str, t1ce: str) -> None:
    """Write a T1 image and a copy with enhancing vessels, under the given file names."""
    random = np.random.default_rng(0)
    tissue = gaussian_filter(random.normal(size=(60, 60, 60)), 2)
    inside = np.linalg.norm(np.indices(tissue.shape) - 29.5, axis=0) < 27
    vessels = gaussian_filter((random.random(tissue.shape) < 2e-3).astype(float), 0.7)
    for name, agent in ((t1, 0), (t1ce, 12)):
        image = 6 + tissue / tissue.std() + agent * vessels / vessels.max() + random.normal(0, 0.05, tissue.shape)
        write_nifti(folder / name, np.where(inside, 100 * image, 0).astype(np.int16), np.diag([2.0, 2, 2, 1]))
