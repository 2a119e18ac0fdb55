"""Contrast: the intensity of each tissue on each sequence, drawn for every patient.

Healthy tissue follows a Gaussian mixture as in SynthSeg (Billot et al. 2023), but with the intensity order of real
sequences, because a network that gets the four sequences by name may rely on it. Tumour tissue is drawn as z-scores of
the patient's own brain, because that is what the network sees after normalisation. The means were set by comparing
each region with real cases (``scripts/compare_phantoms.py`` prints the comparison); the standard deviations are larger
than those of real cases.
"""

from __future__ import annotations

import numpy as np

from .fields import Randomness

SEQUENCES = ("t1", "t1ce", "t2", "flair")

# Mean intensity (white matter on T1 = 1) and its SD between patients: wm, gm, sulcal CSF, ventricle.
HEALTHY = {
    "t1": ((1.00, 0.04), (0.82, 0.05), (0.42, 0.10), (0.30, 0.08)),
    "t1ce": ((1.00, 0.04), (0.86, 0.06), (0.50, 0.12), (0.30, 0.08)),
    "t2": ((0.62, 0.06), (0.74, 0.06), (1.10, 0.25), (1.45, 0.30)),
    "flair": ((0.85, 0.05), (0.96, 0.06), (0.66, 0.12), (0.36, 0.12)),
}

# Mean z-score of oedema and its SD between patients, in the order of SEQUENCES.
OEDEMA = ((-0.30, 0.55), (-0.60, 0.50), (1.50, 0.80), (3.90, 1.10))
FAINT_OEDEMA = ((-0.15, 0.25), (-0.25, 0.25), (0.70, 0.40), (1.60, 0.45))
# Difference of core from the adjacent oedema, and of enhancement from the core (its T1ce as a log).
CORE = {
    "necrotic": ((-0.50, 0.50), (-0.25, 0.55), (1.05, 0.90), (1.20, 1.30)),
    "non_enhancing": ((-0.50, 0.45), (-0.30, 0.45), (0.80, 0.70), (0.90, 1.00)),
    "infiltrating": ((-0.50, 0.30), (-0.45, 0.30), (0.80, 0.55), (-0.25, 0.70)),
    "faint": ((-0.35, 0.25), (-0.35, 0.25), (0.50, 0.35), (0.15, 0.45)),
}
CORE_OF = {"patchy": "non_enhancing", "non_enhancing": "non_enhancing", "diffuse": "non_enhancing"}
ENHANCING = ((0.50, 0.35), (1.55, 0.50), (-0.90, 0.70), (0.00, 0.80))

WEAK = 0.15  # share of patients whose enhancement is hardly brighter than its surroundings
MIMIC = 0.6  # share of patients without enhancement whose core is brighter on T1ce in places


def draw_healthy(random: Randomness) -> np.ndarray:
    """Draw mean intensities, ``(4 sequences, 4 tissues)``."""
    return np.array([[max(0.05, random.varied(m, s)) for m, s in HEALTHY[q]] for q in SEQUENCES], np.float32)


def draw_lesion(random: Randomness, kind: str) -> dict[str, np.ndarray]:
    """Draw z-scores ``(4 sequences,)`` of oedema, core and enhancing tissue of a tumour of ``kind``.

    Core is drawn as a difference from the adjacent oedema, and enhancement as a difference from the core. Within a
    patient, these differences separate the tissues, while absolute intensities overlap between patients.
    """

    def draw(table) -> np.ndarray:
        return np.array([random.varied(m, s) for m, s in table])

    oedema = draw(FAINT_OEDEMA if kind == "faint" else OEDEMA)
    oedema[3] = max(oedema[3], 0.8)
    core_kind = kind if kind in CORE else CORE_OF.get(kind, "necrotic")
    core = oedema + draw(CORE[core_kind])
    # T1ce is T1 with contrast: where nothing enhances, the two differ little.
    core[1] = 0.5 * core[1] + 0.5 * (core[0] - 0.15)
    # The difference between core and oedema may be small on some sequences, but not on all of them.
    core[2] = max(core[2], oedema[2] + 0.35 - 0.5 * min(0.0, core[3] - oedema[3]) * (kind != "infiltrating"))
    core[2] = max(core[2], 0.4 if kind == "faint" else 1.0)
    step = draw(ENHANCING)
    step[1] = random.uniform(0.7, 1.8) if random.chance(WEAK) else min(max(np.exp(step[1]), 1.2), 10.0)
    enhancing = core + step
    enhancing[1] = max(enhancing[1], enhancing[0] + 0.5)
    drawn = {"oedema": oedema, "core": core, "enhancing": enhancing}
    return {k: v.astype(np.float32) for k, v in drawn.items()}


def draw_mimic(random: Randomness) -> float:
    """Draw the increase of T1ce, in z-scores, in patches of a core that does not enhance; 0 for none.

    Causes are blood, leaking or crowded vessels, and a T1ce that is not quite aligned with T1. Annotators do not label
    it as enhancement, and the report states that nothing enhances.
    """
    return random.uniform(0.4, 1.4) if random.chance(MIMIC) else 0.0
