"""Names, codes and colours of the segments in a DICOM SEG."""

from __future__ import annotations

from dataclasses import dataclass

from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from brats_clip.labels import ED, ET, NCR

ALTERED = Code("49755003", "SCT", "Morphologically Altered Structure")


@dataclass(frozen=True)
class Segment:
    """One label as a segment.

    Attributes:
        value: number in a label map of the app (``labels.naming.LABELS``).
        name: SegmentLabel.
        description: SegmentDescription; written with ``value``, so that any reader can restore the label map.
        code: SegmentedPropertyTypeCodeSequence.
        rgb: recommended colour, 0 to 255.
    """

    value: int
    name: str
    description: str
    code: Code
    rgb: tuple[int, int, int]

    def describe(self, number: int, algorithm_type: str, algorithm) -> SegmentDescription:
        """Return the segment in the form that highdicom needs."""
        description = SegmentDescription(
            segment_number=number,
            segment_label=self.name,
            segmented_property_category=ALTERED,
            segmented_property_type=self.code,
            algorithm_type=SegmentAlgorithmTypeValues(algorithm_type),
            algorithm_identification=algorithm,
        )
        description.SegmentDescription = f"{self.description} (label {self.value})"
        description.RecommendedDisplayCIELabValue = list(CIELabColor(*_cielab(self.rgb)).value)
        return description


# From the outside to the inside: where segments of a foreign file overlap, later ones overwrite earlier ones.
SEGMENTS: tuple[Segment, ...] = (
    Segment(6, "WT", "Whole tumour", Code("108369006", "SCT", "Neoplasm"), (255, 215, 0)),
    Segment(5, "TC", "Tumour core", Code("86049000", "SCT", "Neoplasm, Primary"), (214, 90, 160)),
    Segment(ED, "ED", "Peritumoural oedema", Code("79654002", "SCT", "Edema"), (110, 190, 80)),
    Segment(NCR, "NCR/NET", "Necrotic and non-enhancing core", Code("6574001", "SCT", "Necrosis"), (216, 70, 60)),
    Segment(ET, "ET", "Enhancing tumour", Code("C113842", "NCIt", "Enhancing Lesion"), (80, 150, 230)),
)
_NAMES = {
    "ncr": "NCR/NET",
    "net": "NCR/NET",
    "necrosis": "NCR/NET",
    "edema": "ED",
    "oedema": "ED",
    "enhancing lesion": "ET",
    "enhancing tumour": "ET",
    "enhancing tumor": "ET",
    "tumour core": "TC",
    "tumor core": "TC",
    "whole tumour": "WT",
    "whole tumor": "WT",
}


def segment_for(description: Dataset) -> Segment | None:
    """Return which of ``SEGMENTS`` an item of a SegmentSequence is, by its name, else by its code; else None."""
    name = str(description.get("SegmentLabel", "")).strip().lower()
    codes = description.get("SegmentedPropertyTypeCodeSequence") or [Dataset()]
    code = (codes[0].get("CodeValue", ""), codes[0].get("CodingSchemeDesignator", ""))
    wanted = _NAMES.get(name, "").lower() or name
    by_name = next((s for s in SEGMENTS if s.name.lower() == wanted), None)
    return by_name or next((s for s in SEGMENTS if (s.code.value, s.code.scheme_designator) == code), None)


def _cielab(rgb: tuple[int, int, int]) -> tuple[float, float, float]:
    """sRGB to CIELab with the white point D50, as DICOM's PCS has it."""
    linear = [(v / 255 / 12.92) if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in rgb]
    matrix = ((0.4360747, 0.3850649, 0.1430804), (0.2225045, 0.7168786, 0.0606169), (0.0139322, 0.0971045, 0.7141733))
    xyz = [sum(m * c for m, c in zip(row, linear, strict=True)) for row in matrix]
    f = [
        t ** (1 / 3) if (t := v / w) > 0.008856 else 7.787 * t + 16 / 116
        for v, w in zip(xyz, (0.96422, 1, 0.82521), strict=True)
    ]
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])
