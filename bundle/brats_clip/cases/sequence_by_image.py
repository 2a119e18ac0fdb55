"""Identify sequences by image content where names and headers do not tell them apart."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

GRID_MM = 2.0
# On four real cases and ten phantoms: T1ce over T1 gives 2.9 or more (real cases), T1 over itself with noise -0.2.
ENHANCED = 1.5
BRIGHTER = 1.1
# On the same cases, FLAIR against T2 gives 0.36 or more.
FLUID = 0.2
RIM = 3  # surface voxels to ignore, where resampling and skull stripping cause differences
MIN_VOXELS = 500


def sequences_by_image(volumes: Mapping[str, np.ndarray], sequences: Sequence[str]) -> dict[str, str]:
    """Identify which of ``sequences`` each volume is.

    Args:
        volumes: image ``(X, Y, Z)`` by SeriesInstanceUID, all on one grid of about 2 mm.
        sequences: the possible sequences: ("t1", "t1ce"), ("t2", "flair"), or all four for exactly four volumes.

    Returns:
        Sequence by SeriesInstanceUID; several may be the same; "" if the image does not decide it.
    """
    arrays = {uid: np.asarray(volume, np.float32) for uid, volume in volumes.items()}
    inside = _brain(list(arrays.values())) if arrays else np.zeros(0, bool)
    if inside.sum() < MIN_VOXELS:
        return dict.fromkeys(arrays, "")
    values = {uid: array[inside] for uid, array in arrays.items()}
    if set(sequences) == {"t1", "t1ce"}:
        return _by_enhancement(values)
    if set(sequences) == {"t2", "flair"}:
        return _by_fluid(values)
    return _among_four(values) if len(values) == 4 else dict.fromkeys(values, "")


def enhancement(a: np.ndarray, b: np.ndarray) -> float:
    """Return how strongly ``a`` enhances over ``b``: bright minus dark outliers in regressions of one on the other.

    Contrast agent makes vessels, dura and tumour brighter and nothing darker, so T1ce over T1 is positive, T1 over T1ce
    negative, and T1 over T1 about zero.

    Args:
        a, b: intensities of the same voxels ``(N,)``.
    """
    return (_bright_residuals(a, b) - _bright_residuals(b, a)) / 2


def fluid_nulled(a: np.ndarray, b: np.ndarray) -> float:
    """Return how much more ``a`` looks like FLAIR and ``b`` like T2 than the reverse, -2 to 2.

    Fluid is darkest on FLAIR and brightest on T2; tissue that is bright on FLAIR is bright on T2, but not the reverse.
    """
    dark_a, dark_b = _rank_of(b, a <= np.percentile(a, 5)), _rank_of(a, b <= np.percentile(b, 5))
    bright_a, bright_b = _rank_of(b, a >= np.percentile(a, 97)), _rank_of(a, b >= np.percentile(b, 97))
    return (dark_a - dark_b) + (bright_a - bright_b)


def _by_enhancement(values: Mapping[str, np.ndarray]) -> dict[str, str]:
    native = min(values, key=lambda uid: (sum(enhancement(values[uid], v) for v in values.values()), uid))
    found = {native: "t1"}
    for uid in values:
        if uid != native:
            more = enhancement(values[uid], values[native]) >= ENHANCED
            brighter = _bright_tail(values[uid]) >= BRIGHTER * _bright_tail(values[native])
            found[uid] = "t1ce" if more and brighter else "t1"
    return found


def _by_fluid(values: Mapping[str, np.ndarray]) -> dict[str, str]:
    flair = max(values, key=lambda uid: (sum(fluid_nulled(values[uid], v) for v in values.values()), uid))
    against = {uid: fluid_nulled(values[flair], v) for uid, v in values.items() if uid != flair}
    if not against or max(against.values()) < FLUID:
        return dict.fromkeys(values, "")
    return {uid: "t2" if against.get(uid, 0.0) >= FLUID else "flair" for uid in values}


def _among_four(values: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Split four volumes into two pairs of similar images; the pair with the brighter tails is T2 and FLAIR."""
    uids = list(values)
    alike = {pair: _correlation(values[pair[0]], values[pair[1]]) for pair in combinations(uids, 2)}
    pairings = [((uids[0], u), tuple(v for v in uids[1:] if v != u)) for u in uids[1:]]
    first, second = max(pairings, key=lambda pairs: sum(alike[pair] for pair in pairs))
    t1s, t2s = sorted((first, second), key=lambda pair: sum(_brightest(values[uid]) for uid in pair))
    t1ce = max(t1s, key=lambda uid: sum(enhancement(values[uid], values[v]) for v in t1s))
    flair = max(t2s, key=lambda uid: sum(fluid_nulled(values[uid], values[v]) for v in t2s))
    return {uid: "t1ce" if uid == t1ce else "t1" for uid in t1s} | {u: "flair" if u == flair else "t2" for u in t2s}


def _brain(arrays: list[np.ndarray]) -> np.ndarray:
    inside = np.logical_and.reduce([_foreground(array) for array in arrays])
    core = ndimage.binary_erosion(inside, iterations=RIM)
    return core if core.sum() >= MIN_VOXELS else inside


def _foreground(array: np.ndarray) -> np.ndarray:
    """Return the voxels above a background of zeros, or of noise well below the bright voxels."""
    return array > 0.05 * (np.percentile(array[array > 0], 98) if (array > 0).any() else 1.0)


def _bright_residuals(a: np.ndarray, b: np.ndarray) -> float:
    a, b = _standardise(a), _standardise(b)
    low, high = np.percentile(b, [5, 95])
    middle = (b >= low) & (b <= high)
    residual = a - np.polyval(np.polyfit(b[middle], a[middle], 1), b)
    spread = max(np.subtract(*np.percentile(residual, [75, 25])) / 1.35, 1e-6)
    low, high = np.percentile(residual, [0.5, 99.5])
    return float((residual[residual >= high].mean() + residual[residual <= low].mean()) / spread)


def _bright_tail(values: np.ndarray) -> float:
    low, middle, high, top = np.percentile(values, [25, 50, 75, 99.8])
    return float((top - middle) / max(high - low, 1e-6))


def _brightest(values: np.ndarray) -> float:
    return float(np.percentile(values, 98) / max(np.median(values), 1e-6))


def _rank_of(values: np.ndarray, where: np.ndarray) -> float:
    """Return the median rank (0 to 1) among ``values`` of those in the mask ``where``."""
    return float(np.median(np.searchsorted(np.sort(values), values[where])) / len(values))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(np.argsort(np.argsort(a)), np.argsort(np.argsort(b)))[0, 1])


def _standardise(values: np.ndarray) -> np.ndarray:
    return (values - np.median(values)) / max(np.subtract(*np.percentile(values, [75, 25])), 1e-6)


def on_small_grid(files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Read 3D NIfTI files, resampled to about 2 mm in the field of view of the first file.

    Args:
        files: paths by any key.
    """
    grid, volumes = None, {}
    for name, path in files.items():
        image = sitk.ReadImage(str(path), sitk.sitkFloat32)
        steps = [max(1, round(GRID_MM / spacing)) for spacing in image.GetSpacing()]
        small = sitk.BinShrink(image, [min(s, n) for s, n in zip(steps, image.GetSize(), strict=True)])
        if grid is None:
            grid = _isotropic(small)
        volumes[name] = sitk.GetArrayFromImage(sitk.Resample(small, grid))
    return volumes


def _isotropic(image: sitk.Image) -> sitk.Image:
    """Return an empty image of the same extent with isotropic voxels of 2 mm, or of the finest spacing if coarser."""
    spacing = np.asarray(image.GetSpacing())
    wanted = np.full(3, max(GRID_MM, float(spacing.min())))
    size = np.maximum(1, np.rint(np.asarray(image.GetSize()) * spacing / wanted)).astype(int)
    grid = sitk.Image(size.tolist(), sitk.sitkFloat32)
    grid.SetSpacing(wanted.tolist())
    grid.SetOrigin(image.GetOrigin())
    grid.SetDirection(image.GetDirection())
    return grid


def t1_pair_by_image(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Decide by enhancement which of two T1-weighted files is "t1" and which is "t1ce"; empty if undecided."""
    try:
        files = [(name, *_stamp(folder / name)) for name in names]
        return dict(_cached_t1_pair(folder, tuple(files)))
    except (OSError, RuntimeError):  # a file that cannot be read
        return {}


def _stamp(path: Path) -> tuple[int, int]:
    return path.stat().st_mtime_ns, path.stat().st_size


@functools.lru_cache(256)
def _cached_t1_pair(folder: Path, files: tuple[tuple[str, int, int], ...]) -> tuple[tuple[str, str], ...]:
    found = sequences_by_image(on_small_grid({name: folder / name for name, *_ in files}), ("t1", "t1ce"))
    return tuple(found.items()) if sorted(found.values()) == ["t1", "t1ce"] else ()
