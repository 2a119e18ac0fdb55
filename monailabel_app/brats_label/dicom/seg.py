"""Write label maps as DICOM SEG that refer to their source series, and read them back voxel by voxel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import highdicom
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pydicom.valuerep import DA, TM

from ..errors import Refused
from .client import Client, as_unreachable
from .segments import SEGMENTS, Segment, segment_for
from .volume import RAS_FROM_LPS, SliceStack, stack_slices

SEG_STORAGE, LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
_READ = {SEG_STORAGE: "BINARY", LABEL_MAP_STORAGE: "LABELMAP"}
SERIES_NUMBER = 300
MANUFACTURER, MODEL = "brats-clip", "MONAI Label app"
DESCRIPTION = "Brain tumour segmentation"
OFF_GRID = 0.1  # voxels

# Headers that a SEG copies from its source. De-identification may damage them; _MAY_BE_EMPTY are of DICOM type 2.
_MAY_BE_EMPTY: dict[str, Callable[[str], object]] = {
    "PatientID": str,
    "PatientName": str,
    "PatientBirthDate": DA,
    "PatientSex": highdicom.PatientSexValues,
    "AccessionNumber": str,
    "StudyID": str,
    "StudyDate": DA,
    "StudyTime": TM,
    "ReferringPhysicianName": str,
}
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")


def write_seg(
    label: np.ndarray,
    affine: np.ndarray,
    source_files: Iterable[Path],
    version: str = "1",
    algorithm_type: str = "SEMIAUTOMATIC",
    series_description: str = DESCRIPTION,
    content_label: str = "SEGMENTATION",
    uid_seed: Sequence[str] = (),
    may_be_empty: bool = False,
) -> Dataset:
    """Write a label map as a DICOM SEG with one binary segment per label that occurs.

    The standard requires the segment numbers 1, 2, 3 and so on, without a gap for an absent label. So a segment is
    identified by its name, code and description, not by its number.

    Args:
        label: integers ``(X, Y, Z)``; 0 is background, the others are values of ``SEGMENTS``.
        affine: voxel to RAS mm; the grid of the series, as its NIfTI file has it. Axes may be flipped or swapped.
        source_files: the instances of that series.
        version: of the algorithm or its weights.
        algorithm_type: AUTOMATIC, SEMIAUTOMATIC or MANUAL.
        series_description: shown in lists of series.
        content_label: for machines; capitals, digits, spaces and underscores, at most 16.
        uid_seed: equal seeds give equal UIDs; new UIDs if empty. See ``series_uid``.
        may_be_empty: write a label map without labelled voxels as one empty segment (the first).

    Raises:
        Refused: if the label map is empty and may not be, has unknown values, or lies on another grid; if the series
            lacks headers that a SEG needs.
    """
    label = np.asarray(label)
    known = {segment.value: segment for segment in SEGMENTS}
    values = [int(value) for value in np.unique(label) if value != 0]
    if not values and not may_be_empty:
        raise Refused("Label: found no labelled voxel; expected at least one, since a DICOM SEG cannot be empty.")
    if unknown := [value for value in values if value not in known]:
        raise Refused(f"Label: found the values {unknown}; expected {sorted(known)}.")
    stack = stack_slices(source_files)
    planes = _to_slices(label, affine, stack).transpose(2, 1, 0)
    identification = highdicom.AlgorithmIdentificationSequence(
        name="brats_clip",
        version=version[:64],
        family=highdicom.sr.CodedConcept("123110", "DCM", "Artificial Intelligence"),
    )
    present = [known[value] for value in values] or list(SEGMENTS[:1])
    by = None if algorithm_type == "MANUAL" else identification
    descriptions = [segment.describe(number, algorithm_type, by) for number, segment in enumerate(present, 1)]
    return highdicom.seg.Segmentation(
        source_images=[_source(path, stack) for path in stack.files],
        pixel_array=np.stack([planes == segment.value for segment in present], axis=-1).astype(np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=series_uid(uid_seed) if uid_seed else generate_uid(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=generate_uid(entropy_srcs=["instance", *uid_seed] if uid_seed else None),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL,
        software_versions=version[:64],
        device_serial_number="0",
        content_label=content_label,
        omit_empty_frames=bool(values),
        content_description=series_description[:64],
        series_description=series_description[:64],
    )


def series_uid(seed: Sequence[str]) -> str:
    """Return the SeriesInstanceUID of a SEG that is written with this ``uid_seed``."""
    return generate_uid(entropy_srcs=["series", *seed])


def read_seg(dataset: Dataset, affine: np.ndarray, shape: Sequence[int]) -> tuple[np.ndarray, dict[str, int]]:
    """Read a DICOM SEG onto a grid.

    Args:
        dataset: binary segments, or a label map as OHIF saves one since 3.11, whose frames lie on slices of the grid.
        affine: of the grid, voxel to RAS mm.
        shape: of the grid.

    Returns:
        The label map, uint8, and the value of each name that occurs.

    Raises:
        Refused: if it is neither, a segment's meaning is not known, or a frame lies off the grid.
    """
    kind = dataset.get("SegmentationType")
    if kind is None or _READ.get(dataset.get("SOPClassUID")) != kind:
        raise Refused(
            "DICOM SEG: found another object or fractional segments; expected binary segments or a label map."
        )
    segments: dict[int, Segment] = {}
    for item in dataset.SegmentSequence:
        if item.SegmentNumber == 0:  # the background of a label map
            continue
        segment = segment_for(item)
        if segment is None:
            names = ", ".join(s.name for s in SEGMENTS)
            raise Refused(f"DICOM SEG: found a segment {str(item.SegmentLabel)[:64]!r}; expected {names}.")
        segments[int(item.SegmentNumber)] = segment
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    label = np.zeros(shape, np.uint8)
    to_voxel = np.linalg.inv(affine)
    order = {segment.value: rank for rank, segment in enumerate(SEGMENTS)}
    groups = [(segments[number], group, mask) for number, group, mask in _masks(dataset, frames)]
    for segment, group, frame in sorted(groups, key=lambda item: order[item[0].value]):
        rows, columns = np.nonzero(frame)
        if not len(rows):
            continue
        points = np.stack([columns, rows, np.zeros_like(rows), np.ones_like(rows)])
        voxels = (to_voxel @ _frame_affine(dataset, group) @ points)[:3]
        index = np.rint(voxels).astype(int)
        inside = (index >= 0).all() and (index < np.reshape(shape, (3, 1))).all()
        if not inside or np.abs(voxels - index).max() > OFF_GRID:
            raise Refused("DICOM SEG: found a frame off the image's grid; expected frames on its slices.")
        label[tuple(index)] = segment.value
    return label, {segment.name: segment.value for segment in segments.values()}


def store(client: Client, dataset: Dataset) -> None:
    """Store an instance by STOW-RS.

    Raises:
        Unreachable: if the server does not answer.
        Refused: if the server rejects the instance.
    """
    with as_unreachable(client.base_url):
        answer = client.store_instances([dataset])
    if failed := answer.get("FailedSOPSequence"):
        raise Refused(
            f"The DICOMweb server did not store it: failure reason {failed[0].get('FailureReason', 'unknown')}."
        )


def _source(path: Path, stack: SliceStack) -> Dataset:
    """Read a source instance. Headers lost in de-identification become empty if a SEG allows it.

    Raises:
        Refused: if a header that a SEG needs is missing.
    """
    dataset = dcmread(path, stop_before_pixels=True)
    if missing := [keyword for keyword in _NEEDED if not dataset.get(keyword)]:
        raise Refused(
            f"Series: found no {' and no '.join(missing)}; expected the images of a DICOM SEG to have it. Was it lost "
            "when the study was de-identified? Send the study again with it."
        )
    for keyword, read in _MAY_BE_EMPTY.items():
        try:
            value = dataset.get(keyword)
            if value not in (None, ""):
                read(str(value))
        except (ValueError, TypeError, LookupError):
            value = None
        setattr(dataset, keyword, "" if value is None else value)
    if not dataset.get("SliceThickness"):
        dataset.SliceThickness = f"{np.linalg.norm(stack.affine[:3, 2]):.6g}"
    return dataset


def _to_slices(label: np.ndarray, affine: np.ndarray, stack: SliceStack) -> np.ndarray:
    """Return ``label`` with its axes turned to those of the series: column, row, slice."""
    turn = np.linalg.inv(affine) @ stack.affine  # column, row, slice -> label voxel
    whole = np.rint(turn)
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in stack.shape], (1,), indexing="ij")).reshape(4, -1)
    axes = np.abs(whole[:3, :3]).argmax(axis=0)
    fits = sorted(axes) == [0, 1, 2] and (np.abs(whole[:3, :3]).sum(axis=0) == 1).all()
    fits = fits and np.abs((turn - whole) @ corners).max() <= OFF_GRID
    if fits:
        ends = (whole @ corners)[:3]
        fits = (ends.min(axis=1) == 0).all() and (ends.max(axis=1) == np.subtract(label.shape, 1)).all()
    if not fits:
        size = " x ".join(map(str, label.shape))
        raise Refused(f"Label: found a grid of {size} voxels that is not the series' own; expected the series' grid.")
    turned = label.transpose(axes)
    return turned[tuple(slice(None, None, int(whole[axes[a], a])) for a in range(3))]


def _masks(dataset: Dataset, frames: np.ndarray) -> Iterator[tuple[int, Dataset, np.ndarray]]:
    """Yield, by segment and frame, the segment's number, the frame's functional groups, and the segment's mask."""
    for group, frame in zip(dataset.PerFrameFunctionalGroupsSequence, frames, strict=True):
        if dataset.SegmentationType == "LABELMAP":
            yield from ((int(number), group, frame == number) for number in np.unique(frame) if number != 0)
        else:
            yield int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber), group, frame


def _frame_affine(dataset: Dataset, group: Dataset) -> np.ndarray:
    """Return the affine from (column, row, 0) of a frame to RAS mm."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    across, measures, position = (
        (group if name in group else shared)[name][0]
        for name in ("PlaneOrientationSequence", "PixelMeasuresSequence", "PlanePositionSequence")
    )
    cosines = np.asarray(across.ImageOrientationPatient, float)
    affine = np.eye(4)
    affine[:3, 0] = cosines[:3] * float(measures.PixelSpacing[1])
    affine[:3, 1] = cosines[3:] * float(measures.PixelSpacing[0])
    affine[:3, 3] = np.asarray(position.ImagePositionPatient, float)
    return RAS_FROM_LPS @ affine
