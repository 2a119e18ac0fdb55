"""Read findings from reports, whatever their layout and in several languages."""

from .languages import LANGUAGES_READ, language_of
from .read import MASS_EFFECT, NECROSIS, NON_ENHANCING, OEDEMA, english_text, enhancement_mentions, read_findings
from .sizes import SIZED_PARTS, scale_sizes, volume_of

__all__ = [
    "LANGUAGES_READ",
    "MASS_EFFECT",
    "NECROSIS",
    "NON_ENHANCING",
    "OEDEMA",
    "SIZED_PARTS",
    "english_text",
    "enhancement_mentions",
    "language_of",
    "read_findings",
    "scale_sizes",
    "volume_of",
]
