"""What ``--conf NAME VALUE`` can set."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from brats_clip.cases import REFERENCE, SEQUENCES
from brats_clip.errors import InputError


def _default(value: object, says: str):
    return field(default=value, metadata={"says": says})


@dataclass(frozen=True)
class Settings:
    """Settings of the app; each is a ``--conf`` of the same name.

    Raises:
        InputError: from ``read`` only, naming the setting.
    """

    bundle: str = _default("", "folder of the bundle; the one beside the app if empty")
    checkpoint: str = _default("", "weights to start from; the bundle's if empty")
    device: str = _default("", "cpu or cuda; the GPU if there is one if empty")
    workspace: str = _default("", "folder for labels, scores, trained weights and caches; see Workspace if empty")
    reference: str = _default(REFERENCE, "sequence whose grid a case is segmented and stored on")
    register: bool = _default(False, "align the other sequences to the reference rigidly before they are resampled")
    allow_missing_sequences: bool = _default(False, "segment cases with one to three sequences missing")
    pattern_t1: str = _default("", "file name pattern of T1 in a patient's folder, such as *T1_pre*.nii.gz")
    pattern_t1ce: str = _default("", "the same for T1 with contrast agent")
    pattern_t2: str = _default("", "the same for T2")
    pattern_flair: str = _default("", "the same for FLAIR")
    channels: str = _default("", "order of a 4D file, such as flair,t1,t1ce,t2; its dataset.json or MSD's if empty")
    cache_gb: float = _default(2.0, "memory for encoded cases, GiB")
    disk_cache_gb: float = _default(50.0, "disk for what can be made again: split, converted and resampled files, GiB")
    jobs: int = _default(1, "inferences that compute at the same time; the others wait")
    waiting: int = _default(8, "inferences that may wait; more are turned away")
    max_upload_mb: int = _default(512, "largest upload, MiB")
    max_unpacked_mb: int = _default(2048, "largest content of an archive that is sent as a session, MiB")
    max_sessions: int = _default(20, "sessions that are kept at a time")
    max_report_chars: int = _default(100_000, "longest report, characters")
    remote: bool = _default(False, "answer other machines, too; needs --host 0.0.0.0, and should have authentication")
    scoring: bool = _default(True, "score unlabelled cases in the background")
    validation_share: float = _default(0.2, "share of patients that never train")
    seed: int = _default(0, "of that split")

    @classmethod
    def read(cls, conf: Mapping[str, str] | None) -> Settings:
        """Read what the command line gave; keys of MONAI Label's own are left to it.

        Raises:
            InputError: for a name that is no setting (with the nearest that is), or a value that cannot be read.
        """
        known = {f.name: f for f in fields(cls)}
        values = {}
        for name, text in (conf or {}).items():
            if name in ("server_mode", "models", "auto_update_scoring"):
                continue
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                raise InputError(f"--conf {name}", "no setting of this name", near[0] if near else ", ".join(known))
            values[name] = _parse(name, str(text), type(known[name].default))
        settings = cls(**values)
        _check(settings)
        return settings

    @property
    def patterns(self) -> dict[str, str]:
        """File name patterns by sequence; empty if none was given."""
        given = {sequence: getattr(self, f"pattern_{sequence}") for sequence in SEQUENCES}
        return {sequence: pattern for sequence, pattern in given.items() if pattern}


def _parse(name: str, text: str, kind: type):
    if kind is bool:
        known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if text.strip().lower() not in known:
            raise InputError(f"--conf {name}", repr(text), "true or false")
        return known[text.strip().lower()]
    try:
        return kind(text)
    except ValueError:
        raise InputError(f"--conf {name}", repr(text), "a number") from None


def _check(settings: Settings) -> None:
    def need(good: bool, name: str, expected: str) -> None:
        if not good:
            raise InputError(f"--conf {name}", repr(getattr(settings, name)), expected)

    need(settings.reference in SEQUENCES, "reference", " or ".join(SEQUENCES))
    order = [part.strip() for part in settings.channels.split(",")]
    need(not settings.channels or sorted(order) == sorted(SEQUENCES), "channels", "each of t1,t1ce,t2,flair once")
    for name in ("jobs", "max_upload_mb", "max_unpacked_mb", "max_sessions", "max_report_chars"):
        need(getattr(settings, name) >= 1, name, "at least 1")
    for name in ("waiting", "seed"):
        need(getattr(settings, name) >= 0, name, "at least 0")
    for name in ("cache_gb", "disk_cache_gb"):
        need(0 <= getattr(settings, name) < float("inf"), name, "at least 0")
    need(0 < settings.validation_share < 1, "validation_share", "more than 0 and less than 1")
    need(settings.device.split(":")[0] in ("", "cpu", "cuda"), "device", "cpu or cuda")
    bundle = Path(settings.bundle)
    need(not settings.bundle or (bundle / "configs" / "inference.json").is_file(), "bundle", "the folder of a bundle")
    need(not settings.checkpoint or Path(settings.checkpoint).is_file(), "checkpoint", "a file of weights")


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
