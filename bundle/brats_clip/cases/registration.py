"""Register one sequence rigidly to another by mutual information, coarse to fine."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from ..geometry import Grid, resample

_LEVELS = (4, 2, 1)  # coarse to fine, in voxels of the search grid
_FINEST_MM = 2.0  # a finer search takes longer and gains nothing: alignment is within a tenth of a voxel
_MARGIN_MM = 8.0  # around the brain, because its edge aligns best
_SAMPLES = 60_000  # voxels from which the metric is estimated, at each level
# Smaller motions are noise of the search: resampling would only blur.
_LEAST_SHARE, _LEAST_MM = 0.5, 1.0  # share of the fixed image's smallest voxel side, with an upper limit
_LEAST_GAIN = 0.01  # of the metric; BraTS cases, which are aligned already, gain up to 0.007
_SURE = 0.25  # with a smaller peak, other starting positions are tried: see Motion.peak
_COARSE_MM, _COARSE_KEPT = 6.0, 2
_LEAST_VOXELS = 2000
_SLICE_SIGMA = 0.35  # of the slice thickness: blur that stands for the box profile of a slice
_THICK = 1.5  # slices this many times thicker than the search voxels are aligned once more: see _refined
_PROBE_MM = 6.0  # shift of the found position to test whether it is a peak


class Motion(NamedTuple):
    """A rigid motion.

    Attributes:
        matrix: ``(4, 4)`` from RAS mm of the fixed image to RAS mm of the moving one.
        moved_mm: displacement of the centre of the brain in the fixed image.
        turned_degrees: rotation angle.
        peak: share of the mutual information that is lost at a shift of 6 mm, averaged over six directions; measures
            certainty. 0 or less means that the images show no sign of belonging together.
    """

    matrix: np.ndarray
    moved_mm: float
    turned_degrees: float
    peak: float

    @property
    def moves(self) -> bool:
        """Whether the motion differs from the identity."""
        return not np.array_equal(self.matrix, np.eye(4))


def register(
    fixed: np.ndarray, grid: Grid, moving: np.ndarray, moving_grid: Grid, brain: np.ndarray | None = None
) -> Motion | None:
    """Find the rigid motion that aligns ``moving`` to ``fixed`` by Mattes' mutual information, coarse to fine.

    The search starts at the position that the headers give; if it finds no clear peak, it is repeated from the best of
    many positions. The result is deterministic, whatever else runs on the machine.

    Args:
        fixed, moving: ``(X, Y, Z)``.
        grid, moving_grid: their grids.
        brain: ``(X, Y, Z)`` bool on ``grid``: region to align, with its surroundings; None takes voxels above 0.

    Returns:
        The motion, the identity if nothing better was found; None if the search failed, an image is empty, or the axes
        of a grid are sheared.
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
    except RuntimeError:  # too few samples lie inside both images
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
    """Align once more on the voxels of thick slices, with the fixed image blurred by the slice thickness.

    Interpolation between thick slices blurs by an amount that depends on the position, which biases the metric by one
    or two millimetres. On the voxels of the slices, only the fine image is interpolated. Only voxels of the brain
    count, since only the brain is rigid.
    """
    side = np.array(other.GetSpacing())
    axes = np.array(other.GetDirection()).reshape(3, 3)
    slices = Grid(other.GetSize(), np.block([[axes * side, np.array(other.GetOrigin())[:, None]], [np.eye(4)[3:]]]))
    inside = resample(brain.astype(np.float32), grid, slices, np.linalg.inv(matrix)) > 0.5
    if inside.sum() < _LEAST_VOXELS:
        return matrix
    # The fine image at the position found by the first search, on the axes of the slices.
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
    except RuntimeError:  # too few samples lie inside both images
        return matrix
    return np.linalg.inv(_matrix(found)) @ matrix


def _matrix(transform: sitk.Transform) -> np.ndarray:
    """Return the ``(4, 4)`` matrix of a rigid transform."""
    matrix = np.eye(4)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    matrix[:3, :3] = np.transpose([transform.TransformPoint(tuple(unit)) - matrix[:3, 3] for unit in np.eye(3)])
    return matrix


def _attempt(
    begin: sitk.Transform, reference: sitk.Image, other: sitk.Image, mask: sitk.Image | None
) -> tuple[sitk.Transform, float, float]:
    """Return the transform that the search from ``begin`` finds, its metric, and its peak (see ``Motion.peak``)."""
    found = rigid_search(begin, reference, mask).Execute(reference, other)
    value = _value(found, reference, other, mask)
    return found, value, _peak(found, value, reference, other, mask)


class _Coarse:
    """Both images at 6 mm, to compare positions that are far apart.

    Series of one exam can be 50 mm apart and pitched by 20 degrees if the patient was repositioned.
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
        """Return the best few of many positions around the one that aligns the centres of both images."""
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
        """Return the mutual information (nats) of all voxels inside; voxels outside ``other`` count as 0.

        So a position cannot win by a small overlap, as it may with the metric of the search.
        """
        moved = sitk.GetArrayFromImage(sitk.Resample(self.other, self.reference, position, sitk.sitkLinear, 0.0))
        joint, _, _ = np.histogram2d(self.fixed, _scaled(moved[self.inside]), bins=24)
        joint = joint / joint.sum()
        apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
        some = joint > 0
        return float((joint[some] * np.log(joint[some] / apart[some])).sum())


def _scaled(values: np.ndarray) -> np.ndarray:
    """Scale intensities to 0 to 1, clipped at the 99th percentile."""
    return np.clip(values.ravel() / max(float(np.percentile(values, 99)), 1e-6), 0, 1)


def sitk_image(array: np.ndarray, grid: Grid) -> sitk.Image:
    """Return a SimpleITK image whose world space is RAS."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T.astype(np.float32, copy=False)))
    image.SetSpacing(grid.spacing.tolist())
    image.SetOrigin(grid.affine[:3, 3].tolist())
    image.SetDirection((grid.affine[:3, :3] / grid.spacing).ravel().tolist())
    return image


def mutual_information(transform: sitk.Transform, mask: sitk.Image | None = None) -> sitk.ImageRegistrationMethod:
    """Return a deterministic registration method: Mattes' mutual information at ``transform``, inside ``mask``."""
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetNumberOfWorkUnits(1)  # the order of summation affects the last bits
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
    """Return a coarse-to-fine search from ``start``, ready to execute on ``reference`` and the other image."""
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
