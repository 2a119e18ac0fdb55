"""What a client can set for a training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ..errors import Refused

# Least and most of each number.
LIMITS: dict[str, tuple[float, float]] = {
    "max_epochs": (1, 1000),
    "learning_rate": (1e-7, 1.0),
    "patience": (1, 1000),
    "spacing": (0.5, 8.0),
    "patch_size": (32, 256),
    "batch_size": (1, 16),
    "min_gain": (0.0, 1.0),
    "threads": (1, 256),
}
CURRENT = "current"
# Not for panels: Dice on a coarser grid says little about answers on the bundle's, and threads are the operator's.
HIDDEN = ("spacing", "threads")


@dataclass(frozen=True)
class TrainOptions:
    """How to fine-tune. The defaults are for a CPU; see ``defaults``.

    Attributes:
        max_epochs: passes over the training cases.
        learning_rate: of AdamW at the start; it falls to zero.
        patience: epochs without a better validation before it stops early.
        spacing: of the working grid, mm.
        patch_size: side of a training crop in voxels of that grid, divisible by 16.
        batch_size: crops per step.
        min_gain: of mean Dice on the validation cases, that new weights must bring to be put to use: less is noise.
        threads: of torch on a CPU; inference has the others.
        resume: go on with a training that was interrupted, if it had the same labels, options and weights.
        start_from: name of the version of the weights to start from; "current" for the one in use.
    """

    max_epochs: int = 10
    learning_rate: float = 2e-4
    patience: int = 5
    spacing: float = 1.0
    patch_size: int = 96
    batch_size: int = 1
    min_gain: float = 0.005
    threads: int = 1
    resume: bool = True
    start_from: str = CURRENT

    @classmethod
    def defaults(cls, device: str) -> TrainOptions:
        """What pays on ``device``: the bundle's own crops, and more epochs, on a GPU."""
        return cls() if device == "cpu" else cls(max_epochs=30, patience=10, patch_size=128)

    def shown(self) -> dict[str, Any]:
        """What clients show in their panels."""
        return {option.name: getattr(self, option.name) for option in fields(self) if option.name not in HIDDEN}

    def read(self, request: Mapping[str, Any]) -> TrainOptions:
        """These options with what ``request`` sets, by number or by text as panels send it; other keys are ignored.

        Raises:
            Refused: naming the option, what was given and what is taken.
        """
        given = dict(request)
        own = request.get(str(request.get("model")))  # some clients send the options of each model under its name
        if isinstance(own, Mapping):
            given.update(own)
        values = {}
        for option in fields(self):
            value = given.get(option.name)
            if isinstance(value, list | tuple):  # the choices themselves, sent back untouched
                value = value[0] if value else None
            if value is None or (isinstance(value, str) and not value.strip()):
                continue
            values[option.name] = _read(option.name, value, type(getattr(self, option.name)))
        if values.get("patch_size", 16) % 16:
            raise Refused(f"patch_size is {values['patch_size']}; it must be divisible by 16.")
        return replace(self, **values)


def _read(name: str, value: Any, kind: type) -> Any:
    if kind is str:
        if isinstance(value, bool):  # MONAI Label's own trainers call it "pretrained" and send a switch
            return CURRENT
        return str(value).strip()
    if kind is bool:
        known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        found = known.get(str(value).strip().lower())
        if found is None:
            raise Refused(f"{name} is {str(value)[:40]!r}; true or false was expected.")
        return found
    low, high = LIMITS[name]
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not math.isfinite(number) or not low <= number <= high or (kind is int and number != int(number)):
        whole = "a whole number" if kind is int else "a number"
        raise Refused(f"{name} is {str(value)[:40]!r}; {whole} from {low:g} to {high:g} was expected.")
    return kind(number)
