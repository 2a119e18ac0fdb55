"""The app's settings (``--conf NAME VALUE``), and pydantic types for values that users and clients send.

All code that depends on how pydantic 2 describes fields and errors is in this module.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as validated
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from brats_clip.cases import PREPROCESS_MODES, REFERENCE, SEQUENCES
from brats_clip.errors import InputError
from brats_clip.switches import read_switch

A_TEXT = "a text"
_WORDS = {"1": "true", "yes": "true", "0": "false", "no": "false"}


def switch(value: Any) -> bool:
    """Read a switch: True or False, or a word for either, as in command lines and viewer panels.

    Raises:
        ValueError: with what is expected.
    """
    word = value.strip().lower() if isinstance(value, str) else value
    try:
        return read_switch("", _WORDS.get(word, word) if isinstance(word, str) else word)
    except InputError:
        raise ValueError("true or false") from None


def _no_switch(value: Any) -> Any:
    if isinstance(value, bool):  # pydantic would take True for 1
        raise PydanticCustomError("number_expected", "a switch is no number")
    return value


Switch = Annotated[bool, BeforeValidator(switch)]
Integer = Annotated[int, BeforeValidator(_no_switch)]
Float = Annotated[float, BeforeValidator(_no_switch), Field(allow_inf_nan=False)]


class InvalidValue(NamedTuple):
    """A value that cannot be used: the name of its field, the value, and what is expected."""

    name: str
    value: Any
    expected: str

    @property
    def found(self) -> str:
        """The value as shown in an error; its type if text was expected."""
        return type(self.value).__name__ if self.expected == A_TEXT else repr(str(self.value)[:40])


def fields_of(model: type) -> dict[str, FieldInfo]:
    """Return the fields of a pydantic model or dataclass by name."""
    return model.__pydantic_fields__


def first_invalid(model: type, error: ValidationError) -> InvalidValue:
    """Return the first value that ``model`` refused; ``expected`` is from a validator's ``ValueError`` or the field."""
    first = error.errors()[0]
    name = str(first["loc"][0])
    is_ours = first["type"] == "value_error"
    expected = str(first["ctx"]["error"]) if is_ours else _expected(fields_of(model)[name])
    return InvalidValue(name, first["input"], expected)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name closest to ``name``; "" if none is close."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), "")


def _expected(field: FieldInfo) -> str:
    """Describe what a field accepts, by its type and bounds: ``a whole number from 1 to 1000``, for instance."""
    bounds = {}
    for constraint in field.metadata:
        for kind in ("ge", "gt", "le", "lt", "multiple_of"):
            if getattr(constraint, kind, None) is not None:
                bounds[kind] = f"{getattr(constraint, kind):g}"
    if {"ge", "le"} <= bounds.keys():
        expected = (
            f"{'a whole number' if field.annotation is int else 'a number'} from {bounds['ge']} to {bounds['le']}"
        )
    else:
        words = (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than"))
        within = " and ".join(f"{word} {bounds[kind]}" for kind, word in words if kind in bounds)
        expected = f"a number, {within}" if within else "a number" if field.annotation in (int, float) else A_TEXT
    return f"{expected}, divisible by {bounds['multiple_of']}" if "multiple_of" in bounds else expected


_OF_MONAI_LABEL = ("server_mode", "models", "auto_update_scoring")


def _is(good: Any, expected: str) -> AfterValidator:
    """Validate a text with ``good``; an empty text is the default and always valid."""

    def check(text: str) -> str:
        if text and not good(text):
            raise ValueError(expected)
        return text

    return AfterValidator(check)


def _names_each_once(text: str) -> bool:
    return sorted(part.strip() for part in text.split(",")) == sorted(SEQUENCES)


def _is_bundle(text: str) -> bool:
    return (Path(text) / "configs" / "inference.json").is_file()


SequenceName = Annotated[str, _is(SEQUENCES.__contains__, " or ".join(SEQUENCES))]
Preprocess = Annotated[str, _is(PREPROCESS_MODES.__contains__, " or ".join(PREPROCESS_MODES))]
Channels = Annotated[str, _is(_names_each_once, "each of t1,t1ce,t2,flair once")]
Device = Annotated[str, _is(lambda text: text.split(":")[0] in ("cpu", "cuda"), "cpu or cuda")]
Bundle = Annotated[str, _is(_is_bundle, "the folder of a bundle")]
Phantoms = Annotated[str, _is(lambda text: Path(text).is_dir(), "a folder of cases")]
Weights = Annotated[str, _is(lambda text: Path(text).is_file(), "a file of weights")]


@validated(frozen=True, config=ConfigDict(extra="forbid"))
class Settings:
    """Settings of the app, each set by ``--conf`` with its name."""

    bundle: Bundle = Field("", description="folder of the bundle; if empty, the one next to the app")
    checkpoint: Weights = Field("", description="initial weights; if empty, the bundle's")
    device: Device = Field("", description="cpu or cuda; if empty, the GPU if there is one")
    workspace: str = Field(
        "", description="folder for labels, records, trained weights and caches; if empty, see Workspace"
    )
    reference: SequenceName = Field(REFERENCE, description="sequence whose grid a case is segmented and stored on")
    preprocess: Preprocess = Field(
        "auto",
        description="auto: register, brain-extract and resample images that need it; always: all; never: none",
    )
    allow_missing_sequences: Switch = Field(False, description="segment cases with one to three sequences missing")
    pattern_t1: str = Field("", description="file name pattern of T1 in a patient's folder, such as *T1_pre*.nii.gz")
    pattern_t1ce: str = Field("", description="the same for T1 with contrast agent")
    pattern_t2: str = Field("", description="the same for T2")
    pattern_flair: str = Field("", description="the same for FLAIR")
    channels: Channels = Field(
        "", description="channel order of 4D files, such as flair,t1,t1ce,t2; if empty, by dataset.json, or as in MSD"
    )
    cache_gb: Float = Field(2.0, ge=0, description="memory for encoded cases, GiB")
    disk_cache_gb: Float = Field(50.0, ge=0, description="disk cache for split, converted and resampled files, GiB")
    jobs: Integer = Field(1, ge=1, description="inferences that run at the same time; others queue")
    waiting: Integer = Field(8, ge=0, description="inferences that may queue; more are refused")
    max_upload_mb: Integer = Field(512, ge=1, description="largest upload, MiB")
    max_unpacked_mb: Integer = Field(
        2048, ge=1, description="largest unpacked size of an archive uploaded as a session, MiB"
    )
    max_sessions: Integer = Field(20, ge=1, description="sessions that are kept at a time")
    max_report_chars: Integer = Field(100_000, ge=1, description="longest report, characters")
    remote: Switch = Field(
        False, description="accept requests from other machines; needs --host 0.0.0.0, and should have authentication"
    )
    phantoms: Phantoms = Field("", description="folder of synthetic patients to mix into each training; if empty, none")
    double_share: Float = Field(0.0, ge=0, le=1, description="share of cases that two readers annotate")
    validation_share: Float = Field(0.2, gt=0, lt=1, description="share of patients for validation")
    seed: Integer = Field(0, ge=0, description="seed of that split, and of the cases for two readers")

    @classmethod
    def read(cls, conf: Mapping[str, str] | None) -> Settings:
        """Read the settings from the command line; MONAI Label's own keys are ignored.

        Raises:
            InputError: for an unknown name (with the closest known one), or an invalid value.
        """
        given = {name: text for name, text in (conf or {}).items() if name not in _OF_MONAI_LABEL}
        known = fields_of(cls)
        for name in given.keys() - known.keys():
            raise InputError(f"--conf {name}", "no setting of this name", nearest(name, known) or ", ".join(known))
        try:
            return cls(**given)
        except ValidationError as error:
            invalid = first_invalid(cls, error)
            raise InputError(f"--conf {invalid.name}", repr(invalid.value), invalid.expected) from None

    @property
    def patterns(self) -> dict[str, str]:
        """The file name patterns that were given, by sequence."""
        given = {sequence: getattr(self, f"pattern_{sequence}") for sequence in SEQUENCES}
        return {sequence: pattern for sequence, pattern in given.items() if pattern}


@dataclass(frozen=True)
class Workspace:
    """Paths of the files that the app writes. ``labels`` is where MONAI Label keeps labels: ``STUDIES/labels``.

    Args:
        root: the studies folder; for a DICOMweb server, a separate folder below the user's cache.
    """

    root: Path

    @property
    def labels(self) -> Path:
        """Label files, with all revisions."""
        return self.root / "labels"

    @property
    def state(self) -> Path:
        """All other files: records, trained weights, trainings, caches. A hidden folder, so that it is not a case."""
        return self.root / ".brats_clip"

    @property
    def store(self) -> Path:
        """The SQLite file of ``brats_label.store``: case ids, the split, label revisions and so on."""
        return self.state / "store.db"

    @property
    def models(self) -> Path:
        """The weights that were trained here, a folder for each version."""
        return self.state / "models"

    @property
    def training(self) -> Path:
        """The current or last training: checkpoints, metrics, log."""
        return self.state / "training"

    @property
    def cache(self) -> Path:
        """Files that can be recreated: split 4D files, converted DICOM series, resampled sequences."""
        return self.state / "cache"
