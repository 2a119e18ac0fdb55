"""Random but consistent findings over a wider range than real ones."""

from __future__ import annotations

import numpy as np
import pytest

from brats_clip.reports.findings import ENHANCEMENTS, LOBES, SIDES, Findings


def _draw(rng: np.random.Generator) -> Findings:
    side = SIDES[int(rng.choice(4, p=[0.42, 0.42, 0.11, 0.05]))]
    lobes = tuple(LOBES[i] for i in rng.permutation(len(LOBES))[: int(rng.integers(1, 5))])
    enhancement = ENHANCEMENTS[int(rng.integers(len(ENHANCEMENTS)))]
    et = 0.0 if enhancement == "none" else float(rng.gamma(2, 8) + 0.05)
    ncr = float(rng.gamma(2, 8)) if rng.random() < 0.8 else 0.0
    ed = float(rng.gamma(2, 30) + 0.6) if rng.random() < 0.9 or et + ncr == 0 else 0.0
    necrosis = et > 0 and ncr > 0.5 and bool(rng.random() < 0.7)
    tc = et + ncr

    def axes(ml: float) -> tuple[float, ...]:
        """Return the diameters of an ellipsoid of volume ``ml``."""
        if ml == 0:
            return ()
        ratios = np.array([1, rng.uniform(0.6, 1), rng.uniform(0.6, 1.2)])
        return tuple((ratios * (6000 * ml / np.pi / ratios.prod()) ** (1 / 3)).round(1))

    return Findings(
        side=side,
        right_fraction={"left": 0.0, "right": 1.0}.get(side, 0.5),
        lobes=lobes,
        core_lobes=lobes[: max(1, len(lobes) - 1)],
        wt_ml=tc + ed,
        tc_ml=tc,
        et_ml=et,
        ncr_ml=ncr,
        ed_ml=ed,
        enhancement=enhancement,
        necrosis=necrosis,
        necrosis_fraction=ncr / tc if necrosis else 0.0,
        oedema="none" if ed < 0.5 else "mild" if ed < 20 else "moderate" if ed < 60 else "marked",
        oedema_ratio=ed / tc if tc else None,
        mass_effect=(None, "none", "mild", "marked")[int(rng.integers(4))],
        foci=int(rng.integers(2, 5)) if rng.random() < 0.2 else 1,
        diameter_mm=1.3 * (1910 * (tc + ed)) ** (1 / 3),
        core_diameter_mm=1.2 * (1910 * tc) ** (1 / 3),
        core_axes_mm=axes(tc),
        enhancement_axes_mm=axes(et),
        whole_axes_mm=axes(tc + ed),
        cyst=(None, False, True)[int(rng.integers(3))],
    )


@pytest.fixture
def random_findings():
    """Return a function that draws findings of one or several lesions from a random generator."""
    return _draw
