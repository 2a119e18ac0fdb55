"""The headers of a series that help to identify its sequence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

MR_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR_STORAGE = "1.2.840.10008.5.1.4.1.1.4.1"
LEGACY_ENHANCED_MR_STORAGE = "1.2.840.10008.5.1.4.1.1.4.4"

_NO_AGENT = {"", "no", "none", "n", "na", "n/a", "-", "0", "without", "no contrast", "unknown"}


@dataclass(frozen=True)
class SeriesHeader:
    """The relevant headers of one series. Values that the scanner left out are "", () or None.

    Attributes:
        uid: SeriesInstanceUID.
        description, protocol, sequence_name: free text from the scanner; never a patient's name.
        scanning_sequence: of SE, IR, GR, EP.
        image_type: ORIGINAL or DERIVED, PRIMARY or SECONDARY, and further values.
        contrast_agent: "" if none was noted.
        acquisition_type: "2D" or "3D".
        tr_ms, te_ms, ti_ms: repetition, echo and inversion time.
        slices: number of instances, or of frames in a multi-frame instance.
        rows, columns, pixel_mm, slice_mm: image and voxel size; ``slice_mm`` is slice spacing, else slice thickness.
        frame: FrameOfReferenceUID; positions are comparable only within one.
        orientation: the six direction cosines of ImageOrientationPatient.
        acquired: date and time as YYYYMMDDHHMMSS.ffffff, comparable as text; "" if not noted.
    """

    uid: str
    modality: str = "MR"
    sop_class: str = MR_STORAGE
    number: int | None = None
    description: str = ""
    protocol: str = ""
    sequence_name: str = ""
    scanning_sequence: tuple[str, ...] = ()
    image_type: tuple[str, ...] = ()
    contrast_agent: str = ""
    acquisition_type: str = ""
    tr_ms: float | None = None
    te_ms: float | None = None
    ti_ms: float | None = None
    b_value: float | None = None
    slices: int = 0
    rows: int = 0
    columns: int = 0
    pixel_mm: tuple[float, float] | None = None
    slice_mm: float | None = None
    orientation: tuple[float, ...] = ()
    frame: str = ""
    body_part: str = ""
    acquired: str = ""

    @property
    def name(self) -> str:
        """Display name: the description and the series number, as far as known."""
        text = self.description or self.protocol
        number = "" if self.number is None else f"series {self.number}"
        return f"{text} ({number})" if text and number else text or number or "series without description"

    @property
    def plane(self) -> str:
        """The plane of the slices: "axial", "coronal", "sagittal", or "" if unknown."""
        if len(self.orientation) != 6:
            return ""
        normal = np.abs(np.cross(self.orientation[:3], self.orientation[3:]))
        return ("sagittal", "coronal", "axial")[int(np.argmax(normal))]

    @property
    def voxel_mm3(self) -> float | None:
        """The volume of a voxel in mm³, or None if unknown."""
        if self.pixel_mm is None or not self.slice_mm:
            return None
        return self.pixel_mm[0] * self.pixel_mm[1] * self.slice_mm


def read_header(instance: Dataset, slices: int = 0) -> SeriesHeader:
    """Read the headers of a series from one of its instances.

    Args:
        instance: with or without pixels.
        slices: number of instances in the series; a multi-frame instance counts its frames.
    """
    spacing = _numbers(instance, "PixelSpacing", 2)
    agent = _text(instance, "ContrastBolusAgent")
    frames = int(_number(instance, "NumberOfFrames") or 1)
    return SeriesHeader(
        uid=str(instance.SeriesInstanceUID),
        modality=_text(instance, "Modality"),
        sop_class=_text(instance, "SOPClassUID"),
        number=None if (number := _number(instance, "SeriesNumber")) is None else int(number),
        description=_text(instance, "SeriesDescription"),
        protocol=_text(instance, "ProtocolName"),
        sequence_name=_text(instance, "SequenceName") or _text(instance, "PulseSequenceName"),
        scanning_sequence=tuple(map(str.upper, _texts(instance, "ScanningSequence"))),
        image_type=tuple(map(str.upper, _texts(instance, "ImageType"))),
        contrast_agent="" if agent.lower() in _NO_AGENT else agent,
        acquisition_type=_text(instance, "MRAcquisitionType"),
        tr_ms=_number(instance, "RepetitionTime"),
        te_ms=_number(instance, "EchoTime"),
        ti_ms=_number(instance, "InversionTime") or None,  # some scanners write 0 for "no inversion"
        b_value=_number(instance, "DiffusionBValue"),
        slices=max(slices, frames),
        rows=int(_number(instance, "Rows") or 0),
        columns=int(_number(instance, "Columns") or 0),
        pixel_mm=None if spacing is None else (spacing[0], spacing[1]),
        slice_mm=_number(instance, "SpacingBetweenSlices") or _number(instance, "SliceThickness"),
        orientation=tuple(_numbers(instance, "ImageOrientationPatient", 6) or ()),
        frame=_text(instance, "FrameOfReferenceUID"),
        body_part=_text(instance, "BodyPartExamined"),
        acquired=_moment(instance),
    )


def _text(instance: Dataset, keyword: str) -> str:
    return " ".join(_texts(instance, keyword)).strip()


def _texts(instance: Dataset, keyword: str) -> list[str]:
    value = instance.get(keyword)
    if value is None or value == "":
        return []
    parts = [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
    return [str(part).strip() for part in parts]


def _number(instance: Dataset, keyword: str) -> float | None:
    try:
        value = instance.get(keyword)
        if isinstance(value, Sequence) and not isinstance(value, str):
            value = value[0] if len(value) else None
        number = None if value in (None, "") else float(value)
    except (TypeError, ValueError):
        return None
    return number if number is not None and np.isfinite(number) else None


def _numbers(instance: Dataset, keyword: str, count: int) -> list[float] | None:
    try:
        values = [float(value) for value in instance.get(keyword) or ()]
    except (TypeError, ValueError):
        return None
    return values if len(values) == count and np.isfinite(values).all() else None


def _moment(instance: Dataset) -> str:
    """Return when the series was taken. The acquisition time comes first, since copies of a series keep it."""
    for day, hour in (
        ("AcquisitionDate", "AcquisitionTime"),
        ("SeriesDate", "SeriesTime"),
        ("ContentDate", "ContentTime"),
        ("StudyDate", "AcquisitionTime"),
    ):
        date, time = (re.sub(r"[^0-9.]", "", _text(instance, keyword)) for keyword in (day, hour))
        if len(date) == 8 and len(time) >= 4:
            whole, _, part = time.partition(".")
            return f"{date}{whole[:6]:0<6}.{part[:6]:0<6}"
    return ""
