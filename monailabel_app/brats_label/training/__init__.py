"""Training for clients: fine-tune the weights on the submitted labels, and publish the new weights if they are better.

This module has the options that a client can set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ..errors import Refused
from ..settings import Float, Integer, Switch, first_invalid

CURRENT = "current"
CORRECTED_WEIGHT = 2.0  # sampling weight of a case with a corrected label; 1 for one accepted without a change
# Not shown in panels: Dice on a coarser grid says little about answers on the bundle's; the operator sets threads.
HIDDEN = ("spacing", "threads", "augment")


def _version_name(value: Any) -> str:
    # MONAI Label's own trainers call the option "pretrained" and take a boolean.
    return CURRENT if isinstance(value, bool) else str(value).strip()


class TrainOptions(BaseModel):
    """How to fine-tune. The defaults are for a CPU; see ``defaults``."""

    model_config = ConfigDict(frozen=True)

    max_epochs: Integer = Field(10, ge=1, le=1000, description="passes over the training cases")
    learning_rate: Float = Field(2e-4, ge=1e-7, le=1.0, description="initial learning rate of AdamW; it decays to zero")
    patience: Integer = Field(5, ge=1, le=1000, description="epochs without a better validation before early stopping")
    spacing: Float = Field(1.0, ge=0.5, le=8.0, description="voxel spacing of the working grid, mm")
    patch_size: Integer = Field(
        96, ge=32, le=256, multiple_of=16, description="side of a training patch in voxels of that grid"
    )
    batch_size: Integer = Field(1, ge=1, le=16, description="patches per step")
    min_gain: Float = Field(
        0.005,
        ge=0.0,
        le=1.0,
        description="minimum gain of mean Dice on the validation cases to publish new weights; less is noise",
    )
    augment: Switch = Field(True, description="augment the images as the bundle's train.json does")
    threads: Integer = Field(1, ge=1, le=256, description="threads of torch on a CPU; inference has the others")
    resume: Switch = Field(
        True, description="continue a training that was interrupted, if it had the same labels, options and weights"
    )
    start_from: Annotated[str, BeforeValidator(_version_name)] = Field(
        CURRENT, description='name of the version of the weights to start from; "current" for the one in use'
    )

    @classmethod
    def defaults(cls, device: str) -> TrainOptions:
        """Return the defaults for ``device``: on a GPU the bundle's patch size, and more epochs."""
        return cls() if device == "cpu" else cls(max_epochs=30, patience=10, patch_size=128)

    def shown(self) -> dict[str, Any]:
        """Return the options that clients show in their panels."""
        return self.model_dump(exclude=set(HIDDEN))

    def read(self, request: Mapping[str, Any]) -> TrainOptions:
        """Return these options updated from ``request``, where numbers may be text; unknown keys are ignored.

        Raises:
            Refused: with the option, its value and what is expected.
        """
        given = dict(request)
        own = request.get(str(request.get("model")))  # some clients send the options of each model under its name
        if isinstance(own, Mapping):
            given.update(own)
        values = self.model_dump()
        for name in values.keys() & given.keys():
            value = given[name]
            if isinstance(value, list | tuple):  # the list of choices, sent back unchanged
                value = value[0] if value else None
            if value is not None and not (isinstance(value, str) and not value.strip()):
                values[name] = value
        try:
            return TrainOptions(**values)
        except ValidationError as error:
            invalid = first_invalid(TrainOptions, error)
            raise Refused(f"{invalid.name} is {invalid.found}; {invalid.expected} was expected.") from None
