"""What ``--conf NAME VALUE`` can set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as validated

from brats_clip.cases import REFERENCE, SEQUENCES
from brats_clip.errors import InputError

from .values import Real, Switch, Whole, fields_of, first_wrong, nearest

_OF_MONAI_LABEL = ("server_mode", "models", "auto_update_scoring")


def _is(good: Any, expected: str) -> AfterValidator:
    """A check of a text that was given; an empty one is the default."""

    def check(text: str) -> str:
        if text and not good(text):
            raise ValueError(expected)
        return text

    return AfterValidator(check)


def _names_each_once(text: str) -> bool:
    return sorted(part.strip() for part in text.split(",")) == sorted(SEQUENCES)


def _is_bundle(text: str) -> bool:
    return (Path(text) / "configs" / "inference.json").is_file()


Sequence = Annotated[str, _is(SEQUENCES.__contains__, " or ".join(SEQUENCES))]
Channels = Annotated[str, _is(_names_each_once, "each of t1,t1ce,t2,flair once")]
Device = Annotated[str, _is(lambda text: text.split(":")[0] in ("cpu", "cuda"), "cpu or cuda")]
Bundle = Annotated[
    str, _is(lambda text: (Path(text) / "configs" / "inference.json").is_file(), "the folder of a bundle")
]
Weights = Annotated[str, _is(lambda text: Path(text).is_file(), "a file of weights")]


@validated(frozen=True, config=ConfigDict(extra="forbid"))
class Settings:
    """Settings of the app; each is a ``--conf`` of the same name."""

    bundle: Bundle = Field("", description="folder of the bundle; the one beside the app if empty")
    checkpoint: Weights = Field("", description="weights to start from; the bundle's if empty")
    device: Device = Field("", description="cpu or cuda; the GPU if there is one if empty")
    workspace: str = Field(
        "", description="folder for labels, scores, trained weights and caches; see Workspace if empty"
    )
    reference: Sequence = Field(REFERENCE, description="sequence whose grid a case is segmented and stored on")
    register: Switch = Field(
        False, description="align the other sequences to the reference rigidly before they are resampled"
    )
    allow_missing_sequences: Switch = Field(False, description="segment cases with one to three sequences missing")
    pattern_t1: str = Field("", description="file name pattern of T1 in a patient's folder, such as *T1_pre*.nii.gz")
    pattern_t1ce: str = Field("", description="the same for T1 with contrast agent")
    pattern_t2: str = Field("", description="the same for T2")
    pattern_flair: str = Field("", description="the same for FLAIR")
    channels: Channels = Field(
        "", description="order of a 4D file, such as flair,t1,t1ce,t2; its dataset.json or MSD's if empty"
    )
    cache_gb: Real = Field(2.0, ge=0, description="memory for encoded cases, GiB")
    disk_cache_gb: Real = Field(
        50.0, ge=0, description="disk for what can be made again: split, converted and resampled files, GiB"
    )
    jobs: Whole = Field(1, ge=1, description="inferences that compute at the same time; the others queue")
    waiting: Whole = Field(8, ge=0, description="inferences that may queue; more are refused")
    max_upload_mb: Whole = Field(512, ge=1, description="largest upload, MiB")
    max_unpacked_mb: Whole = Field(
        2048, ge=1, description="largest content of an archive that is sent as a session, MiB"
    )
    max_sessions: Whole = Field(20, ge=1, description="sessions that are kept at a time")
    max_report_chars: Whole = Field(100_000, ge=1, description="longest report, characters")
    remote: Switch = Field(
        False, description="answer other machines, too; needs --host 0.0.0.0, and should have authentication"
    )
    double_share: Real = Field(0.0, ge=0, le=1, description="share of cases that two people annotate on purpose")
    validation_share: Real = Field(0.2, gt=0, lt=1, description="share of patients that never train")
    seed: Whole = Field(0, ge=0, description="of that split")

    @classmethod
    def read(cls, conf: Mapping[str, str] | None) -> Settings:
        """Read what the command line gave; keys of MONAI Label's own are left to it.

        Raises:
            InputError: for a name that is no setting (with the nearest that is), or a value that cannot be read.
        """
        given = {name: text for name, text in (conf or {}).items() if name not in _OF_MONAI_LABEL}
        known = fields_of(cls)
        for name in given.keys() - known.keys():
            raise InputError(f"--conf {name}", "no setting of this name", nearest(name, known) or ", ".join(known))
        try:
            return cls(**given)
        except ValidationError as error:
            wrong = first_wrong(cls, error)
            raise InputError(f"--conf {wrong.name}", repr(wrong.value), wrong.expected) from None

    @property
    def patterns(self) -> dict[str, str]:
        """File name patterns by sequence; empty if none was given."""
        given = {sequence: getattr(self, f"pattern_{sequence}") for sequence in SEQUENCES}
        return {sequence: pattern for sequence, pattern in given.items() if pattern}


@dataclass(frozen=True)
class Workspace:
    """Where the app keeps what it makes. ``labels`` is where MONAI Label keeps them: ``STUDIES/labels``.

    Args:
        root: the studies folder, or for a DICOMweb server a folder of its own below the user's cache.
    """

    root: Path

    @property
    def labels(self) -> Path:
        """Labels that people submitted, and their earlier versions."""
        return self.root / "labels"

    @property
    def state(self) -> Path:
        """All else: records, trained weights, the training, caches. Hidden, so that it is no case."""
        return self.root / ".brats_clip"

    @property
    def store(self) -> Path:
        """The records of ``brats_label.store``: what cases are called, the split, label revisions and so on."""
        return self.state / "store.db"

    @property
    def models(self) -> Path:
        """Weights that were trained here, each version with what it was trained on, and which one is in use."""
        return self.state / "models"

    @property
    def training(self) -> Path:
        """The training that runs, or ran last: checkpoints, metrics, log."""
        return self.state / "training"

    @property
    def cache(self) -> Path:
        """What can be made again: split 4D files, converted DICOM series, resampled sequences."""
        return self.state / "cache"
