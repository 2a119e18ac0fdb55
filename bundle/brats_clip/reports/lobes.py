"""A rough lobe lookup: map the brain's bounding box onto that of the ICBM-152 template, then apply rules in MNI mm."""

from __future__ import annotations

import numpy as np

from .findings import LOBES

# The box of the brain spans the planes with at least this share of the fullest plane's brain voxels. Strips of orbit,
# sinus or skull that skull stripping left are thinner, and would otherwise enlarge the box.
_PLANE_SHARE = 0.05
# The box, by the rule above, of the ICBM-152 (2009a, symmetric) brain mask in MNI mm: left, right, back, front, top.
_MNI_BOX = (-70.0, 70.0, -104.0, 71.0, 78.0)
# The average box of BraTS volumes, in voxels of their RAS-oriented 240x240x155 grid at 1 mm.
_SRI24_SHAPE = (240, 240, 155)
_SRI24_BOX = (56.0, 186.0, 29.5, 194.0, 135.0)


class BrainFrame:
    """Maps voxels of a RAS-oriented grid to approximate MNI millimetres by the bounding box of the brain.

    The left-right and front-back axes are scaled to the template's extent. Height is measured from the top with the
    mean of those two scales, because data sets cut the brainstem at different heights. Pitch and roll are not
    corrected, and ``x = 0`` is the median midpoint of the brain, so the midline is accurate to about 3 mm.

    Args:
        shape: shape ``(X, Y, Z)`` of the grid.
        spacing: voxel size in mm.
        brain: boolean brain mask of that shape. Without it, a 240x240x155 grid of 1 mm is treated as a BraTS volume
            with an average brain, and any other grid as cropped to the brain.
    """

    def __init__(self, shape: tuple[int, ...], spacing: np.ndarray, brain: np.ndarray | None = None):
        if brain is not None and brain.any():
            box, middle = _brain_box(brain)
        elif tuple(shape) == _SRI24_SHAPE and np.allclose(spacing, 1, atol=0.01):
            box, middle = np.array(_SRI24_BOX), 121.0
        else:
            box = np.array([0, shape[0] - 1, 0, shape[1] - 1, shape[2] - 1], float)
            middle = (shape[0] - 1) / 2
        left, right, back, front, top = _MNI_BOX
        extent = np.maximum([box[1] - box[0], box[3] - box[2]], 1)
        in_plane = np.array([right - left, front - back]) / extent  # MNI mm per voxel
        up = (in_plane / spacing[:2]).mean() * spacing[2]
        self.scale = np.array([*in_plane, up])
        self.origin = np.array([middle, box[3] - front / in_plane[1], box[4] - top / up])

    def to_mni(self, voxels: np.ndarray) -> np.ndarray:
        """Convert voxel indices ``(N, 3)`` to MNI millimetres ``(N, 3)``."""
        return (voxels - self.origin) * self.scale


def _brain_box(brain: np.ndarray) -> tuple[np.ndarray, float]:
    box = []
    for others in ((1, 2), (0, 2), (0, 1)):
        counts = np.count_nonzero(brain, axis=others)
        planes = np.flatnonzero(counts >= _PLANE_SHARE * counts.max())
        box += [planes[0], planes[-1]]
    rows = brain[:, ::4, ::4].reshape(brain.shape[0], -1)
    rows = rows[:, rows.any(axis=0)]
    middles = (rows.argmax(axis=0) + brain.shape[0] - 1 - rows[::-1].argmax(axis=0)) / 2
    middle = float(np.median(middles)) if middles.size else (box[0] + box[1]) / 2
    return np.array([*box[:4], box[5]], float), middle


def lobe_of(mni: np.ndarray) -> np.ndarray:
    """Return the lobe of each point, as an index into ``LOBES``.

    Straight lines and ellipsoids approximate the folded anatomy. The central sulcus is a line through the
    hand knob and its lateral end, the Sylvian fissure a bent line seen from the side, the parieto-occipital sulcus and
    pre-occipital notch a plane, the tentorium a roof that slopes down laterally; insula, basal ganglia, thalamus and
    brainstem are ellipsoids. Expect errors within a centimetre of a border, more where a mass displaces anatomy.
    White matter and ventricles belong to the lobe whose borders enclose them.

    Args:
        mni: points ``(N, 3)`` in MNI millimetres, RAS.

    Returns:
        ``(N,)`` integer indices into ``LOBES``.
    """
    x, y, z = np.abs(mni[:, 0]), mni[:, 1], mni[:, 2]
    lobe = np.zeros(len(mni), np.int64)  # frontal, unless a rule below says otherwise

    def put(where: np.ndarray, name: str) -> None:
        lobe[where] = LOBES.index(name)

    def ellipsoid(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
        parts = zip((x, y, z), centre, radii, strict=True)
        return sum(((p - c) / r) ** 2 for p, c, r in parts) < 1

    put(y < -10 - 0.35 * (np.maximum(z, 10) - 20), "parietal")
    put((y < -5) & (z < -8) & (x < 22), "brainstem")  # only the part that no rule below overwrites
    sylvian = np.interp(y, [-45, -20, 0, 22], [18, 12, 1, -16])
    lateral = (x > 22) & (y < 22) & (z < sylvian)
    put(lateral | ((x > 13) & (y < 4) & (y > -45) & (z < -8)), "temporal")
    put(y < -56 - 0.55 * np.maximum(z, 0) - np.clip((x - 20) * 0.4, 0, 4), "occipital")
    put(ellipsoid((20, 2, 4), (14, 26, 14)) | ellipsoid((11, -19, 7), (12, 15, 12)), "deep")
    put(ellipsoid((38, 2, 3), (8, 26, 17)), "insular")
    put((y < -34) & (z < -7 - 0.45 * np.minimum(x, 40)), "cerebellum")
    stem_y, stem_x = np.interp(z, [-50, -32, -12], [-42, -28, -25]), np.interp(z, [-50, -32, -12], [10, 18, 16])
    put((z < -4) & ((x / stem_x) ** 2 + ((y - stem_y) / np.interp(z, [-50, -32], [9, 14])) ** 2 < 1), "brainstem")
    return lobe


def lobe_shares(mni: np.ndarray) -> dict[str, float]:
    """Return the share of points ``(N, 3)`` in each lobe, largest first; lobes without points are omitted."""
    counts = np.bincount(lobe_of(mni), minlength=len(LOBES))
    order = [i for i in np.argsort(-counts, kind="stable") if counts[i]]
    return {LOBES[i]: float(counts[i] / len(mni)) for i in order}
