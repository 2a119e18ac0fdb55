"""Compare a stated size with the segmented volume."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from .evidence import ImageEvidence
from .reading import volume_of

# Volumes that differ by less than the first factor agree; from the second factor on they contradict each other. The
# third factor applies to a volume that is estimated from one diameter, since this is rough.
_AGREES, _CONTRADICTS, _CONTRADICTS_ONE_DIAMETER = 2.0, 6.0, 10.0
# Smaller volumes are treated as this volume.
_LEAST_ML = 0.3
_NAMES = {"core": "a mass", "enhancement": "enhancing tumour", "oedema": "oedema", "whole": "a FLAIR abnormality"}


@dataclass(frozen=True)
class SizeAgreement:
    """A stated size, the volume segmented, and how far they agree, 0 to 1."""

    said: str
    seen: str
    agreement: float


def compare_size(part: str, size: dict[str, Any], image: ImageEvidence) -> SizeAgreement | None:
    """Compare the stated size of a part with the image, leniently.

    "Mass" may mean the core or the whole abnormality, and the diameters of an enhancing rim are also those of the core
    inside it: such a size agrees with any volume from the smaller to the larger one.

    Args:
        part: one of ``SIZED_PARTS``.
        size: its diameters and volume, as ``read_findings`` returns them.
        image: the evidence.

    Returns:
        ``None`` for a part that is not compared (necrosis).
    """
    if part not in _NAMES:
        return None
    wt, tc, et = (image.ml(p, 0.35) for p in (image.wt, image.tc, image.et))
    mm, ml = size["mm"], size["ml"]
    low, high = {
        "core": (tc or wt, wt),
        "enhancement": (et, et if ml is not None else max(tc, et)),
        "oedema": (max(wt - tc, 0.0), wt),
        "whole": (wt, wt),
    }[part]
    low, high = max(low, _LEAST_ML), max(high, _LEAST_ML)
    stated = max(ml if ml is not None else volume_of(part, mm), _LEAST_ML)
    apart = max(low / stated, stated / high, 1.0)
    limit = _CONTRADICTS if ml is not None or len(mm) > 1 else _CONTRADICTS_ONE_DIAMETER
    agreement = 1 - (math.log(apart) - math.log(_AGREES)) / (math.log(limit) - math.log(_AGREES))
    amount = f"{ml:g} ml" if ml is not None else f"{' x '.join(f'{length:g}' for length in mm)} mm"
    seen = f"{low:.1f} ml" if high < 1.1 * low else f"{low:.1f} to {high:.1f} ml"
    return SizeAgreement(f"{_NAMES[part]} of {amount}", seen, min(max(agreement, 0.0), 1.0))
