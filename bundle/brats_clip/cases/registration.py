"""Register one sequence rigidly to another by mutual information, coarse to fine."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from ..geometry import Grid, resample

_LEVELS = (4, 2, 1)  # coarse to fine, in voxels of the grid that is searched on
_FINEST_MM = 2.0  # below, it takes longer and gains nothing: aligned to a tenth of a voxel
_MARGIN_MM = 8.0  # around the brain: its edge is what aligns best
_SAMPLES = 60_000  # voxels that the metric is estimated from, at each level
# Below these, what is found is noise of the search: resampling would only blur.
_LEAST_SHARE, _LEAST_MM = 0.5, 1.0  # of the fixed image's smallest voxel side, and that is enough
_LEAST_GAIN = 0.01  # of the metric; BraTS cases, aligned by their makers, gain up to 0.007
_SURE = 0.25  # a smaller peak is looked for elsewhere, too: see Motion.peak
_COARSE_MM, _COARSE_KEPT = 6.0, 2
_LEAST_VOXELS = 2000
_SLICE_SIGMA = 0.35  # of a slice's thickness: the blur of its profile, a box
_THICK = 1.5  # slices this many times thicker than the voxels that are searched on are aligned once more: see _refined
_PROBE_MM = 6.0  # how far the found position is shifted to see whether it is a peak


class Motion(NamedTuple):
    """A rigid motion.

    Attributes:
        matrix: ``(4, 4)`` from RAS mm of the fixed image to RAS mm of the moving one.
        moved_mm: how far the middle of the fixed image's brain goes.
        turned_degrees: about the axis of the rotation.
        peak: the share of the mutual information that is lost 6 mm away, in the mean of six directions: how sure the
            position is. 0 or less means that the images do not show that they belong together.
    """

    matrix: np.ndarray
    moved_mm: float
    turned_degrees: float
    peak: float

    @property
    def moves(self) -> bool:
        """Whether it is any motion at all."""
        return not np.array_equal(self.matrix, np.eye(4))


def register(
    fixed: np.ndarray, grid: Grid, moving: np.ndarray, moving_grid: Grid, brain: np.ndarray | None = None
) -> Motion | None:
    """Find the rigid motion that aligns ``moving`` to ``fixed`` by Mattes' mutual information, coarse to fine.

    The search starts where the headers put the images; where that leads nowhere, from the best of many positions. Equal
    volumes give equal motions, whatever runs beside.

    Args:
        fixed, moving: ``(X, Y, Z)``.
        grid, moving_grid: their grids.
        brain: ``(X, Y, Z)`` bool on ``grid``: what is to be aligned, with its surroundings; None takes what is not 0.

    Returns:
        The motion, the identity where nothing better was found; None if it went astray, an image is empty, or the
        axes of a grid are sheared.
    """
    inside = np.argwhere(fixed > 0 if brain is None else brain)
    if not len(inside) or not (moving > 0).any() or grid.sheared or moving_grid.sheared:
        return None
    margin = _MARGIN_MM / grid.spacing
    side = max(_FINEST_MM, float(grid.spacing.min()))
    search = grid.box(inside.min(axis=0) - margin, inside.max(axis=0) + margin, side)
    reference = sitk_image(resample(fixed, grid, search), search)
    other = sitk_image(moving, moving_grid)
    other = sitk.BinShrink(other, [max(1, int(_FINEST_MM / size + 0.1)) for size in moving_grid.spacing])
    mask = None
    if brain is not None:
        near = sitk.GetImageFromArray((resample(brain.astype(np.float32), grid, search) > 0.1).T.astype(np.uint8))
        mask = sitk.BinaryDilate(near, [max(1, round(_MARGIN_MM / 2 / side))] * 3)
        mask.CopyInformation(reference)
    start = sitk.Euler3DTransform()
    start.SetCenter(search.centre[:3].tolist())
    try:
        before = _value(start, reference, other, mask)
        found, after, peak = _attempt(start, reference, other, mask)
        if peak < _SURE:
            coarse = _Coarse(reference, other, mask)
            attempts = [(found, after, peak)]
            attempts += [_attempt(begin, reference, other, mask) for begin in coarse.starts(start)]
            found, after, peak = max(attempts, key=lambda attempt: coarse.agreement(attempt[0]))
    except RuntimeError:  # too few samples are inside both
        return None
    matrix = np.eye(4)
    if after <= before * (1 + _LEAST_GAIN):
        matrix = _matrix(found)
        if brain is not None and moving_grid.spacing.max() > _THICK * side:
            matrix = _refined(matrix, fixed, grid, other, brain)
    corners = search.corners()
    reach = float(np.linalg.norm((matrix @ corners - corners)[:3], axis=0).mean())
    if reach < min(_LEAST_SHARE * grid.spacing.min(), _LEAST_MM):
        matrix = np.eye(4)
    moved = float(np.linalg.norm((matrix @ search.centre - search.centre)[:3]))
    turned = float(np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1))))
    return Motion(matrix, moved, turned, peak)


def _refined(matrix: np.ndarray, fixed: np.ndarray, grid: Grid, other: sitk.Image, brain: np.ndarray) -> np.ndarray:
    """Align once more on the voxels of thick slices, where the fixed image is averaged as such a slice averages.

    Sampled between its slices, a thick image is blurred by an amount that depends on the position, and the metric
    follows the blur by one or two millimetres. On its own voxels nothing is interpolated but the fine image. Nothing
    beside the brain counts, since the brain alone is rigid.
    """
    side = np.array(other.GetSpacing())
    axes = np.array(other.GetDirection()).reshape(3, 3)
    slices = Grid(other.GetSize(), np.block([[axes * side, np.array(other.GetOrigin())[:, None]], [np.eye(4)[3:]]]))
    inside = resample(brain.astype(np.float32), grid, slices, np.linalg.inv(matrix)) > 0.5
    if inside.sum() < _LEAST_VOXELS:
        return matrix
    # The fine image, where the first search puts it, on the axes of the slices.
    fine = slices.box(np.zeros(3), np.array(slices.shape) - 1, np.minimum(side, _FINEST_MM))
    moved = sitk_image(resample(fixed, grid, fine, np.linalg.inv(matrix)), fine)
    blur = sitk.SmoothingRecursiveGaussianImageFilter()
    blur.SetSigma([max(0.01, _SLICE_SIGMA * size) if size > _FINEST_MM * _THICK else 0.01 for size in side])
    mask = sitk.GetImageFromArray(inside.T.astype(np.uint8))
    mask.CopyInformation(other)
    start = sitk.Euler3DTransform()
    start.SetCenter(slices.centre[:3].tolist())
    method = mutual_information(start, mask)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=0.01, numberOfIterations=60, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    try:
        found = method.Execute(other, blur.Execute(moved))
    except RuntimeError:  # too few samples are inside both
        return matrix
    return np.linalg.inv(_matrix(found)) @ matrix


def _matrix(transform: sitk.Transform) -> np.ndarray:
    """``(4, 4)`` of a rigid transform."""
    matrix = np.eye(4)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    matrix[:3, :3] = np.transpose([transform.TransformPoint(tuple(unit)) - matrix[:3, 3] for unit in np.eye(3)])
    return matrix


def _attempt(
    begin: sitk.Transform, reference: sitk.Image, other: sitk.Image, mask: sitk.Image | None
) -> tuple[sitk.Transform, float, float]:
    """What the search finds from ``begin`` on, the metric there, and how much of a peak it is."""
    found = rigid_search(begin, reference, mask).Execute(reference, other)
    value = _value(found, reference, other, mask)
    return found, value, _peak(found, value, reference, other, mask)


class _Coarse:
    """Both images on voxels of 6 mm, to compare positions far apart.

    Series of one exam can lie 50 mm apart and be pitched by 20 degrees, when the patient was repositioned.
    """

    def __init__(self, reference: sitk.Image, other: sitk.Image, mask: sitk.Image | None) -> None:
        self.reference, self.other = (
            sitk.BinShrink(image, [max(1, round(_COARSE_MM / side)) for side in image.GetSpacing()])
            for image in (reference, other)
        )
        self.inside: np.ndarray | slice = slice(None)
        if mask is not None:
            mask = sitk.Resample(mask, self.reference, sitk.Transform(), sitk.sitkNearestNeighbor)
            self.inside = sitk.GetArrayFromImage(mask) > 0
        self.fixed = _scaled(sitk.GetArrayFromImage(self.reference)[self.inside])

    def starts(self, start: sitk.Euler3DTransform) -> list[sitk.Transform]:
        """The best few of many positions around that with the middles of both images one above the other."""
        middles = [
            image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
            for image in (self.reference, self.other)
        ]
        x, y, z = np.subtract(middles[1], middles[0])
        tried = []
        for pitch, up, ahead in itertools.product((-0.25, 0.0, 0.25), range(-48, 49, 8), (-24, -12, 0, 12, 24)):
            begin = sitk.Euler3DTransform(start)
            begin.SetRotation(pitch, 0.0, 0.0)
            begin.SetTranslation((x, y + ahead, z + up))
            tried.append((-self.agreement(begin), len(tried), begin))
        return [begin for _, _, begin in sorted(tried)[:_COARSE_KEPT]]

    def agreement(self, position: sitk.Transform) -> float:
        """Mutual information, nats, of all voxels inside; those that ``other`` does not reach count as 0.

        So a position does not win by a small overlap, as it may by the metric of the search.
        """
        moved = sitk.GetArrayFromImage(sitk.Resample(self.other, self.reference, position, sitk.sitkLinear, 0.0))
        joint, _, _ = np.histogram2d(self.fixed, _scaled(moved[self.inside]), bins=24)
        joint = joint / joint.sum()
        apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
        some = joint > 0
        return float((joint[some] * np.log(joint[some] / apart[some])).sum())


def _scaled(values: np.ndarray) -> np.ndarray:
    """Intensities in 0 to 1, without the brightest hundredth."""
    return np.clip(values.ravel() / max(float(np.percentile(values, 99)), 1e-6), 0, 1)


def sitk_image(array: np.ndarray, grid: Grid) -> sitk.Image:
    """An image of SimpleITK whose world is RAS."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T.astype(np.float32, copy=False)))
    image.SetSpacing(grid.spacing.tolist())
    image.SetOrigin(grid.affine[:3, 3].tolist())
    image.SetDirection((grid.affine[:3, :3] / grid.spacing).ravel().tolist())
    return image


def mutual_information(transform: sitk.Transform, mask: sitk.Image | None = None) -> sitk.ImageRegistrationMethod:
    """Mattes' mutual information at ``transform``, inside ``mask``; equal volumes give equal values."""
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetNumberOfWorkUnits(1)  # the order of a sum decides its last bits
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=48)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetInitialTransform(sitk.Transform(transform), inPlace=False)
    if mask is not None:
        method.SetMetricFixedMask(mask)
    return method


def _value(transform: sitk.Transform, reference: sitk.Image, other: sitk.Image, mask: sitk.Image | None) -> float:
    return mutual_information(transform, mask).MetricEvaluate(reference, other)


def _peak(
    found: sitk.Transform, value: float, reference: sitk.Image, other: sitk.Image, mask: sitk.Image | None
) -> float:
    around = []
    for axis in range(3):
        for sign in (-1, 1):
            probe = sitk.TranslationTransform(3, (np.eye(3)[axis] * sign * _PROBE_MM).tolist())
            away = sitk.CompositeTransform([sitk.Transform(found), probe])
            around.append(_value(away, reference, other, mask))
    return float(1 - np.mean(around) / value) if value < 0 else 0.0


def rigid_search(
    start: sitk.Transform, reference: sitk.Image, mask: sitk.Image | None = None
) -> sitk.ImageRegistrationMethod:
    """A coarse-to-fine search from ``start`` on, ready to execute on ``reference`` and the other image."""
    method = mutual_information(start, mask)
    voxels = np.prod(reference.GetSize())
    shares = [min(1.0, _SAMPLES * level**3 / voxels) for level in _LEVELS]
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentagePerLevel(shares, seed=1)
    side = reference.GetSpacing()[0]
    method.SetShrinkFactorsPerLevel(_LEVELS)
    method.SetSmoothingSigmasPerLevel([0.5 * side * level if level > 1 else 0.0 for level in _LEVELS])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=0.02, numberOfIterations=100, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    return method
