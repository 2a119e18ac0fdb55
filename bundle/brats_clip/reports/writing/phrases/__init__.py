"""Sentence templates of reports, one table per register.

``[a|b]`` is a choice and may be nested; ``{slot}`` is filled by ``write``: ``{at}`` "in the left frontal lobe",
``{the}`` "the left frontal lobe", ``{adj}`` "left frontal", the same with ``core_`` for the core alone, volumes such
as ``{wt}`` "about 35 ml", and the sizes of ``writing.sizes.SizeWriter.slots`` (core, et, whole). Spelling is British
here; ``write`` changes it to American in 60 % of the reports. Nearly every sentence names the location, since each is
encoded separately. A sentence states one finding only, so that ``perturb`` can change one without the others.
"""

from .captions import CAPTIONS
from .generic import GENERIC
from .prose import PROSE
from .structured import STRUCTURED
from .terse import TERSE

REGISTERS = {"prose": PROSE, "terse": TERSE, "structured": STRUCTURED}

__all__ = ["CAPTIONS", "GENERIC", "PROSE", "REGISTERS", "STRUCTURED", "TERSE"]
