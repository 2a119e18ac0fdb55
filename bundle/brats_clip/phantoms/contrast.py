"""Contrast: what each tissue looks like on each sequence, drawn anew for every patient.

Healthy tissue follows a Gaussian mixture as in SynthSeg (Billot et al. 2023), but around the ordering real sequences
have, since a network that is given the four sequences by name may rely on it. Tumour tissue is drawn in units of the
patient's own brain (z-scores), because that is what the network sees after normalisation; the centres were set by
comparing region by region with real cases (``scripts/compare_phantoms.py`` prints that comparison).
"""

from __future__ import annotations

import numpy as np

from .fields import Randomness

SEQUENCES = ("t1", "t1ce", "t2", "flair")

# Mean intensity (white matter on T1 = 1) and spread between patients: wm, gm, sulcal CSF, ventricle.
HEALTHY = {
    "t1": ((1.00, 0.04), (0.82, 0.05), (0.42, 0.10), (0.30, 0.08)),
    "t1ce": ((1.00, 0.04), (0.86, 0.06), (0.50, 0.12), (0.30, 0.08)),
    "t2": ((0.62, 0.06), (0.74, 0.06), (1.10, 0.25), (1.45, 0.30)),
    "flair": ((0.84, 0.05), (0.96, 0.06), (0.62, 0.12), (0.30, 0.10)),
}

# z-score and spread between patients; per tissue in the order of SEQUENCES.
LESION = {
    "oedema": ((-0.05, 0.45), (-0.25, 0.40), (1.55, 0.50), (3.40, 0.80)),
    "necrosis": ((-0.50, 0.70), (-0.70, 0.60), (2.70, 0.70), (3.00, 1.50)),
    "non_enhancing": ((-0.45, 0.60), (-0.60, 0.60), (2.30, 0.60), (3.00, 1.00)),
    "cyst": ((-1.70, 0.50), (-1.60, 0.50), (3.60, 0.80), (0.00, 1.20)),
    "enhancing": ((0.30, 0.55), (3.30, 1.10), (1.90, 0.60), (3.50, 0.90)),
}


FAINT = 0.25  # share of patients whose enhancement is hardly brighter than what lies around it
MIMIC = 0.6  # share of patients without enhancement whose core is brighter on T1ce in places


def draw_healthy(random: Randomness) -> np.ndarray:
    """Draw mean intensities, ``(4 sequences, 4 tissues)``."""
    return np.array([[max(0.05, random.normal(m, s)) for m, s in HEALTHY[q]] for q in SEQUENCES], np.float32)


def draw_lesion(random: Randomness) -> dict[str, np.ndarray]:
    """Draw z-scores of each lesion tissue, ``(4 sequences,)``.

    One shared deviation per sequence moves all lesion tissues together, as a long T2 weighting does.
    """
    shared = np.array([random.normal(0, s) for s in (0.15, 0.15, 0.30, 0.40)])
    drawn = {k: np.array([random.normal(m, s) for m, s in v]) + shared for k, v in LESION.items()}
    # Enhancement is what T1ce shows over T1, so the two cannot be drawn freely.
    drawn["enhancing"][1] = max(drawn["enhancing"][1], drawn["enhancing"][0] + 0.8, 1.1)
    for tissue in ("oedema", "necrosis", "non_enhancing"):
        drawn[tissue][1] = 0.6 * drawn[tissue][1] + 0.4 * (drawn[tissue][0] - 0.25)
    # Contrast given late or in small dose: where the report says more than the image.
    if random.chance(FAINT):
        drawn["enhancing"][1] = max(drawn["enhancing"][0], drawn["non_enhancing"][1]) + random.uniform(0.35, 1.0)
    return {k: v.astype(np.float32) for k, v in drawn.items()}


def draw_mimic(random: Randomness) -> float:
    """Draw how many z-scores T1ce rises in patches of a core that does not enhance; 0 for none.

    Blood, leaking or crowded vessels and a T1ce that is not quite aligned with T1 do it; no annotator calls it
    enhancement, and a report says so.
    """
    return random.uniform(0.4, 1.4) if random.chance(MIMIC) else 0.0
