"""Traits: the kind of tumour and the faults of the scan, drawn before the images.

The traits are those that occur in glioma cohorts and that networks trained on simpler phantoms get wrong: fluid that
FLAIR suppresses, blood, faint lesions, small rings in much oedema, weak enhancement, core that looks like oedema and
the reverse, coil shading, bright tissue at the base, and one sequence far worse than the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from ..errors import InputError
from .contrast import SEQUENCES
from .fields import Randomness

TUMOUR_KINDS = {  # share of patients; about one in eight never enhances
    "ring": 0.29,  # necrotic centre, enhancing rim
    "solid": 0.12,  # enhancing throughout, small necroses
    "patchy": 0.12,  # non-enhancing core with enhancing patches or nodules
    "cystic": 0.08,  # mostly fluid inside a thin wall
    "small_ring": 0.08,  # 0.5 to 2 ml of enhancement in much oedema
    "large_enhancing": 0.14,  # large and heterogeneous, weakly enhancing at its margins
    "infiltrating": 0.07,  # mass-like core without or with little enhancement, grows into cortex
    "non_enhancing": 0.04,  # core without enhancement
    "faint": 0.04,  # homogeneous and hardly brighter than brain, mesial temporal or insular
    "diffuse": 0.02,  # oedema-like infiltration, at most a few ml of core
}
NEVER_ENHANCING = ("non_enhancing", "faint", "diffuse")


@dataclass(frozen=True)
class Traits:
    """Traits of one patient.

    Attributes:
        kind: a key of ``TUMOUR_KINDS``.
        cyst: share of the core that is fluid, dark on FLAIR; 0 for none.
        blood: share of the core that is blood or calcium, dark on T2; 0 for none.
        shading: largest log gain of the coil, over the four sequences.
        bright_base: whether fat and susceptibility brighten the frontal base, orbits or temporal poles.
        poor_sequence: the sequence that is far worse than the rest, or None.
        short_view: share of the brain that the poor sequence's field of view leaves out; 0 for none.
    """

    kind: str
    cyst: float = 0.0
    blood: float = 0.0
    shading: float = 0.1
    bright_base: bool = False
    poor_sequence: str | None = None
    short_view: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in TUMOUR_KINDS:
            raise InputError("kind", repr(self.kind), "one of " + ", ".join(TUMOUR_KINDS))
        if self.poor_sequence not in (None, *SEQUENCES):
            raise InputError("poor_sequence", repr(self.poor_sequence), "None or one of " + ", ".join(SEQUENCES))


def draw_traits(random: Randomness, chosen: Mapping[str, object] | None = None) -> Traits:
    """Draw a patient's traits; ``chosen`` overrides some of them after they are drawn.

    Raises:
        InputError: if ``chosen`` names an unknown trait.
    """
    chosen = dict(chosen or {})
    names = [f.name for f in fields(Traits)]
    if unknown := sorted(set(chosen) - set(names)):
        raise InputError("traits", ", ".join(unknown), "some of " + ", ".join(names))
    kind = random.choice(list(TUMOUR_KINDS), list(TUMOUR_KINDS.values()))
    kind = chosen.get("kind", kind)
    cyst = random.uniform(0.05, 0.9) if random.chance(0.2) else 0.0
    blood = random.uniform(0.04, 0.4) if random.chance(0.22) else 0.0
    shading = random.ranged(0.15, 0.35) if random.chance(0.35) else random.ranged(0.0, 0.15)
    base = random.chance(0.35)
    poor = random.choice(SEQUENCES, (0.4, 0.15, 0.2, 0.25)) if random.chance(0.3) else None
    cut = random.ranged(0.03, 0.33) if random.chance(0.3) else 0.0
    if kind == "cystic":
        cyst = max(cyst, random.uniform(0.4, 0.95))
    elif kind in ("faint", "diffuse"):  # barely visible tumours have neither fluid nor blood
        cyst = blood = 0.0
    return replace(Traits(kind, cyst, blood, shading, base, poor, cut if poor else 0.0), **chosen)
