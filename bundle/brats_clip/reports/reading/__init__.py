"""Reading reports: from their layout and language to findings."""

from .languages import language_of
from .read import MASS_EFFECT, NECROSIS, NON_ENHANCING, OEDEMA, enhancement_mentions, read_findings
from .sizes import SIZED_PARTS, ellipsoid_ml, scale_sizes

__all__ = [
    "MASS_EFFECT",
    "NECROSIS",
    "NON_ENHANCING",
    "OEDEMA",
    "SIZED_PARTS",
    "ellipsoid_ml",
    "enhancement_mentions",
    "language_of",
    "read_findings",
    "scale_sizes",
]
