"""Findings about a tumour as data: the common representation of label maps and report texts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from ..errors import InputError

_MIRRORED = {"left": "right", "right": "left"}
SIDES = ("left", "right", "bilateral", "midline")
LOBES = ("frontal", "parietal", "temporal", "occipital", "insular", "deep", "cerebellum", "brainstem")
ENHANCEMENTS = ("none", "thin rim", "thick rim", "nodular", "patchy", "solid")
OEDEMAS = ("none", "mild", "moderate", "marked")
MASS_EFFECTS = ("none", "mild", "marked")


@dataclass(frozen=True)
class Findings:
    """Findings of one case; all volumes in ml, all lengths in mm.

    The patterns are modelled on the VASARI feature set (TCIA) but do not follow its reader definitions exactly.

    Args:
        side: one of ``SIDES``, from the patient's point of view; ``None`` means there is no lesion.
        right_fraction: share of the whole tumour that lies right of the midline, 0 to 1; ``None`` without a lesion.
        lobes: lobes of the whole tumour, largest share first, from ``LOBES`` ("deep" is basal ganglia and thalamus).
        core_lobes: the same for the tumour core; equal to ``lobes`` when there is no core.
        wt_ml, tc_ml, et_ml: volumes of the regions WT, TC, ET.
        ncr_ml, ed_ml: volumes of the labels NCR (necrotic or non-enhancing core) and ED (oedema).
        enhancement: one of ``ENHANCEMENTS``.
        necrosis: whether the core has a necrotic part: NCR with enhancement around it. Other NCR is solid tumour that
            does not enhance.
        necrosis_fraction: necrotic share of the tumour core, 0 to 1; 0 without necrosis.
        oedema: one of ``OEDEMAS``.
        oedema_ratio: volume of oedema over that of the core; ``None`` without a core.
        mass_effect: one of ``MASS_EFFECTS``, or ``None`` if not known: a label map does not show it.
        foci: number of separate lesions.
        diameter_mm: largest diameter of the largest lesion, oedema included.
        core_diameter_mm: the same of the core alone.
        core_axes_mm, enhancement_axes_mm, whole_axes_mm: three diameters of the largest core (TC), enhancing part (ET)
            and whole tumour (WT), as a radiologist measures them: the largest in an axial plane, the one perpendicular
            to it in that plane, and the craniocaudal extent; empty if the part is absent or its size not known.
        cyst: whether the tumour has a cyst, or ``None`` if not known: a label map does not show it.

    Raises:
        InputError: if a value is not in its vocabulary, or a number is negative or not finite.
    """

    side: str | None = None
    right_fraction: float | None = None
    lobes: tuple[str, ...] = ()
    core_lobes: tuple[str, ...] = ()
    wt_ml: float = 0.0
    tc_ml: float = 0.0
    et_ml: float = 0.0
    ncr_ml: float = 0.0
    ed_ml: float = 0.0
    enhancement: str = "none"
    necrosis: bool = False
    necrosis_fraction: float = 0.0
    oedema: str = "none"
    oedema_ratio: float | None = None
    mass_effect: str | None = None
    foci: int = 0
    diameter_mm: float = 0.0
    core_diameter_mm: float = 0.0
    core_axes_mm: tuple[float, ...] = ()
    enhancement_axes_mm: tuple[float, ...] = ()
    whole_axes_mm: tuple[float, ...] = ()
    cyst: bool | None = None

    def __post_init__(self) -> None:
        for name, allowed in (
            ("side", (*SIDES, None)),
            ("enhancement", ENHANCEMENTS),
            ("oedema", OEDEMAS),
            ("mass_effect", (*MASS_EFFECTS, None)),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(f"Findings.{name}", repr(getattr(self, name)), f"one of {allowed}")
        for name in ("lobes", "core_lobes"):
            value = getattr(self, name)
            if isinstance(value, str) or not set(value) <= set(LOBES):
                raise InputError(f"Findings.{name}", repr(value), f"names from {LOBES}")
            object.__setattr__(self, name, tuple(value))
        for name in ("core_axes_mm", "enhancement_axes_mm", "whole_axes_mm"):
            value = tuple(float(length) for length in getattr(self, name))
            if len(value) not in (0, 3) or not all(0 < length < float("inf") for length in value):
                raise InputError(f"Findings.{name}", str(value), "three lengths in mm above 0, or none")
            object.__setattr__(self, name, value)
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, (int, float)) and not 0 <= value < float("inf"):
                raise InputError(f"Findings.{field.name}", repr(value), "a finite number, 0 or more")
        if self.side is not None and not self.lobes:
            raise InputError("Findings.lobes", "none", f"at least one of {LOBES} for a lesion on side {self.side!r}")

    @property
    def empty(self) -> bool:
        """Whether there is no lesion at all."""
        return self.side is None

    @property
    def plain_core_ml(self) -> float:
        """Volume in ml of core that neither enhances nor is necrotic."""
        return 0.0 if self.necrosis else self.ncr_ml

    @property
    def size(self) -> str:
        """Size class of the whole tumour: "small" (under 20 ml), "medium-sized" (under 80 ml) or "large"."""
        return "small" if self.wt_ml < 20 else "medium-sized" if self.wt_ml < 80 else "large"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; ``from_dict`` reverses it."""
        values = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Findings:
        """Build findings from ``to_dict``'s output; missing fields take their defaults.

        Raises:
            InputError: if a field is unknown or a value is not allowed.
        """
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise InputError("Findings", f"unknown fields {sorted(unknown)}", "the fields of Findings.to_dict()")
        return cls(**values)


def mirror_findings(values: dict[str, Any]) -> dict[str, Any]:
    """Mirror the output of ``Findings.to_dict`` left to right."""
    side, right = values["side"], values["right_fraction"]
    return {**values, "side": _MIRRORED.get(side, side), "right_fraction": None if right is None else 1 - right}
