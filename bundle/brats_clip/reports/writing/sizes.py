"""Wording of sizes: one, two or three diameters or a volume, rounded as radiologists round."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..places import pick

_ABOUT = ("about", "approximately", "around", "approx.")


class SizeWriter:
    """Writes the sizes of one report, with the same unit, rounding step and multiplication sign throughout.

    Args:
        rng: chooses all of these and the wording.
        imprecision: standard deviation of the relative error of a length; twice as much for volumes.
    """

    def __init__(self, rng: np.random.Generator, imprecision: float = 0.0) -> None:
        self.rng, self.imprecision = rng, imprecision
        self.litre = pick(rng, ("ml", "ml", "mL", "cc", "cm3"))
        self.in_cm = bool(rng.random() < 0.5)
        self.step_mm = pick(rng, (1, 1, 5))
        self.times = pick(rng, (" x ", " x ", "x", " \xd7 ", " by "))

    def slots(self, name: str, axes_mm: Sequence[float], ml: float) -> dict[str, Callable[[], str]]:
        """Return the slots of a part: ``{name}`` any size, ``{name_diam}`` one diameter, ``{name_ml}`` a volume.

        Slots that end in ``_bare`` have no "about". The size of a part without diameters is its volume.
        """

        def any_form(planes: bool) -> str:
            return self._axes(axes_mm, planes) if axes_mm and self.rng.random() < 0.8 else self._amount(ml)

        def one() -> str:
            return self._lengths([max(axes_mm)]) if axes_mm else self._amount(ml)

        return {
            name: lambda: self._about(any_form(True)),
            f"{name}_bare": lambda: any_form(False),
            f"{name}_diam": lambda: self._about(one()),
            f"{name}_diam_bare": one,
            f"{name}_ml": lambda: self.volume(ml),
        }

    def volume(self, ml: float) -> str:
        """Return a volume with "about" or the like before it."""
        amount = self._amount(ml)
        return amount if amount.startswith("less") else f"{pick(self.rng, (*_ABOUT, 'some'))} {amount}"

    def _amount(self, ml: float) -> str:
        ml *= self._error(2 * self.imprecision)
        # About two significant digits, as estimated by eye.
        rounded = f"{ml:.1f}" if ml < 10 else f"{round(ml)}" if ml < 30 else f"{5 * round(ml / 5)}"
        return f"less than 0.1 {self.litre}" if rounded == "0.0" else f"{rounded} {self.litre}"

    def _about(self, amount: str) -> str:
        return amount if amount.startswith("less") or self.rng.random() < 0.4 else f"{pick(self.rng, _ABOUT)} {amount}"

    def _axes(self, axes_mm: Sequence[float], planes: bool) -> str:
        form = self.rng.random()
        if len(axes_mm) < 3 or form < 0.3:
            return self._lengths([max(axes_mm)])
        if form < 0.55:
            return self._lengths(axes_mm[:2])
        if form < 0.9 or not planes:
            return self._lengths(axes_mm)
        plane, height = self._lengths(axes_mm[:2]), self._lengths(axes_mm[2:])
        return f"{plane} in the axial plane and {height} craniocaudally"

    def _lengths(self, axes_mm: Sequence[float]) -> str:
        lengths = [mm * self._error(self.imprecision) for mm in axes_mm]
        # Short lengths are rounded to 1 mm: a radiologist does not round 7 mm to 5 mm.
        lengths = [(step := self.step_mm if mm >= 12 else 1) * max(1, round(mm / step)) for mm in lengths]
        if not self.in_cm:
            return f"{self.times.join(str(mm) for mm in lengths)} mm"
        return f"{self.times.join(f'{mm / 10:.1f}' for mm in lengths)} cm"

    def _error(self, spread: float) -> float:
        return float(np.exp(self.rng.normal(0, spread))) if spread > 0 else 1.0
