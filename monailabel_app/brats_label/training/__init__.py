"""Training from the clients: fine-tune the bundle on what people have labelled, and publish what is better.

Here: what a client can set for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ..errors import Refused
from ..settings import Real, Switch, Whole, first_wrong

CURRENT = "current"
CORRECTED_WEIGHT = 2.0  # a case that a person corrected is drawn so often as this many that were accepted as they were
# Not for panels: Dice on a coarser grid says little about answers on the bundle's, and threads are the operator's.
HIDDEN = ("spacing", "threads", "augment")


def _version_name(value: Any) -> str:
    # MONAI Label's own trainers call it "pretrained" and send a switch.
    return CURRENT if isinstance(value, bool) else str(value).strip()


class TrainOptions(BaseModel):
    """How to fine-tune. The defaults are for a CPU; see ``defaults``."""

    model_config = ConfigDict(frozen=True)

    max_epochs: Whole = Field(10, ge=1, le=1000, description="passes over the training cases")
    learning_rate: Real = Field(2e-4, ge=1e-7, le=1.0, description="of AdamW at the start; it falls to zero")
    patience: Whole = Field(5, ge=1, le=1000, description="epochs without a better validation before it stops early")
    spacing: Real = Field(1.0, ge=0.5, le=8.0, description="of the working grid, mm")
    patch_size: Whole = Field(
        96, ge=32, le=256, multiple_of=16, description="side of a training crop in voxels of that grid"
    )
    batch_size: Whole = Field(1, ge=1, le=16, description="crops per step")
    min_gain: Real = Field(
        0.005,
        ge=0.0,
        le=1.0,
        description="gain of mean Dice on the validation cases from which new weights are published; less is noise",
    )
    augment: Switch = Field(True, description="vary the images as the bundle's train.json does")
    threads: Whole = Field(1, ge=1, le=256, description="of torch on a CPU; inference has the others")
    resume: Switch = Field(
        True, description="continue a training that was interrupted, if it had the same labels, options and weights"
    )
    start_from: Annotated[str, BeforeValidator(_version_name)] = Field(
        CURRENT, description='name of the version of the weights to start from; "current" for the one in use'
    )

    @classmethod
    def defaults(cls, device: str) -> TrainOptions:
        """What pays on ``device``: the bundle's own crops, and more epochs, on a GPU."""
        return cls() if device == "cpu" else cls(max_epochs=30, patience=10, patch_size=128)

    def shown(self) -> dict[str, Any]:
        """What clients show in their panels."""
        return self.model_dump(exclude=set(HIDDEN))

    def read(self, request: Mapping[str, Any]) -> TrainOptions:
        """These options with what ``request`` sets, by number or by text as panels send it; other keys are ignored.

        Raises:
            Refused: naming the option, what was given and what is taken.
        """
        given = dict(request)
        own = request.get(str(request.get("model")))  # some clients send the options of each model under its name
        if isinstance(own, Mapping):
            given.update(own)
        values = self.model_dump()
        for name in values.keys() & given.keys():
            value = given[name]
            if isinstance(value, list | tuple):  # the choices themselves, sent back untouched
                value = value[0] if value else None
            if value is not None and not (isinstance(value, str) and not value.strip()):
                values[name] = value
        try:
            return TrainOptions(**values)
        except ValidationError as error:
            wrong = first_wrong(TrainOptions, error)
            raise Refused(f"{wrong.name} is {wrong.found}; {wrong.expected} was expected.") from None
