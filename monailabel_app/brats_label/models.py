"""Versions of the weights: the bundle's, and those that were trained here; one is in use, none is ever lost."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock

from brats_clip.engines import load_weights
from brats_clip.errors import WeightsError
from brats_clip.evaluation import sha256_of

from .durable import sync, write_json
from .errors import NotFound
from .model_version import ModelVersion, as_json, bundled

__all__ = ["ModelRegistry", "ModelVersion", "as_json"]

logger = logging.getLogger(__name__)

WEIGHTS, FACTS, CURRENT = "model.pt", "version.json", "current.json"


class ModelRegistry:
    """Keeps versions in ``folder/0001``, ``folder/0002`` and so on, and in ``current.json`` which one is in use.

    Safe to use from several threads and processes: a version appears whole or not at all, and a reader sees the one in
    use before or after a change, never between.

    Args:
        folder: where versions are kept; made when the first is published.
        bundle_checkpoint: version 0; it stays where it is, and as it is.
    """

    def __init__(self, folder: str | os.PathLike, bundle_checkpoint: str | os.PathLike) -> None:
        self.folder, self.bundle_checkpoint = Path(folder), Path(bundle_checkpoint)
        self._digest: tuple[tuple[int, int], str] | None = None

    def current(self) -> ModelVersion:
        """The version in use.

        Raises:
            WeightsError: if the record of it is damaged, or its weights are gone; ``use`` another version then.
        """
        return self._version(self._record()["number"])

    def versions(self) -> list[ModelVersion]:
        """All versions by number; one whose record is damaged is left out, and logged."""
        found = []
        for number in [0, *self._numbers()]:
            try:
                found.append(self._version(number))
            except WeightsError as error:
                logger.warning("version %d is left out: %s", number, error)
        return found

    def named(self, name: str) -> ModelVersion:
        """The version of this name.

        Raises:
            NotFound: with the names there are.
        """
        versions = self.versions()
        for version in versions:
            if version.name == name:
                return version
        names = ", ".join(version.name for version in versions)
        raise NotFound(f"No version {name[:80]!r} of the weights; there are {names}.")

    def find(self, weights: str | os.PathLike) -> ModelVersion | None:
        """The version trained here that has this very file of weights; None if there is none."""
        digest = sha256_of(Path(weights))
        return next((v for v in reversed(self.versions()) if v.number and v.sha256 == digest), None)

    def publish(
        self,
        weights: str | os.PathLike,
        metrics: Mapping[str, Any],
        trained_on: Mapping[str, Any],
        parent: int | None = None,
    ) -> ModelVersion:
        """Keep a copy of ``weights`` as a new version, and put it to use.

        Weights that are a version already become no second one: a publication that was cut off can be repeated.

        Args:
            weights: file with the network's state dict.
            metrics: Dice on the validation cases.
            trained_on: case ids by section.
            parent: what they were trained from; the version in use if None.

        Raises:
            WeightsError: if the file holds no weights.
        """
        load_weights(weights)
        with self._lock():
            version = self.find(weights) or self._add(Path(weights), metrics, trained_on, parent)
            self._put_to_use(version.number)
        logger.info("weights %s are in use", version.name)
        return version

    def use(self, number: int) -> ModelVersion:
        """Put a version to use, an older or a newer one.

        Raises:
            NotFound: if there is no such version.
            WeightsError: if its file is not what was published.
        """
        with self._lock():
            if number != 0 and number not in self._numbers():
                numbers = ", ".join(map(str, [0, *self._numbers()]))
                raise NotFound(f"No version {number} of the weights; there are {numbers}.")
            version = self._version(number)
            if number and sha256_of(version.path) != version.sha256:
                raise WeightsError(version.path, "another content than was published", f"sha256 {version.sha256}")
            self._put_to_use(number)
        logger.info("weights %s are in use", version.name)
        return version

    def _add(self, weights: Path, metrics: Mapping, trained_on: Mapping, parent: int | None) -> ModelVersion:
        parent_version = self.current() if parent is None else self._version(parent)
        number = 1 + max([self._record(damaged_ok=True)["highest"], *self._numbers()])
        base = parent_version.name.split("+")[0]
        for torn in self.folder.glob(".tmp-*"):  # left by a process that was killed; the lock is ours
            shutil.rmtree(torn, ignore_errors=True) if torn.is_dir() else torn.unlink(missing_ok=True)
        draft = self.folder / f".tmp-{uuid4().hex}"
        draft.mkdir()
        try:
            shutil.copyfile(weights, draft / WEIGHTS)
            facts = {
                "number": number,
                "name": f"{base}+site.{number}",
                "sha256": sha256_of(draft / WEIGHTS),
                "metrics": dict(metrics),
                "trained_on": dict(trained_on),
                "parent": parent_version.number,
                "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            }
            write_json(draft / FACTS, facts)
            sync(draft / WEIGHTS)
            sync(draft)
            draft.rename(self._place(number))
            sync(self.folder)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        return self._version(number)

    def _put_to_use(self, number: int) -> None:
        highest = max([self._record(damaged_ok=True)["highest"], *self._numbers()])
        write_json(self.folder / CURRENT, {"number": number, "highest": highest})

    def _record(self, damaged_ok: bool = False) -> dict[str, int]:
        """Number in use and highest number ever given, which no later version gets again."""
        path = self.folder / CURRENT
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return {key: int(content[key]) for key in ("number", "highest")}
        except FileNotFoundError:
            return {"number": 0, "highest": 0}
        except (OSError, ValueError, KeyError, TypeError) as reason:
            if damaged_ok:
                return {"number": 0, "highest": 0}
            expected = "the number of the version in use; choose one again"
            raise WeightsError(path, f"a damaged file ({type(reason).__name__})", expected) from reason

    def _version(self, number: int) -> ModelVersion:
        if number == 0:
            return self._bundled()
        path = self._place(number) / FACTS
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            version = ModelVersion(path=path.with_name(WEIGHTS), **facts)
        except (OSError, ValueError, TypeError) as reason:
            raise WeightsError(
                path, f"no record of a version ({type(reason).__name__})", "one as published"
            ) from reason
        if not version.path.is_file():
            raise WeightsError(version.path, "no file", f"the weights {version.name}")
        return version

    def _bundled(self) -> ModelVersion:
        path = self.bundle_checkpoint
        if not path.is_file():
            raise WeightsError(path, "no file", "the weights to start from")
        identity = (path.stat().st_size, path.stat().st_mtime_ns)
        if self._digest is None or self._digest[0] != identity:
            self._digest = identity, sha256_of(path)
        return bundled(path, self._digest[1])

    def _numbers(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        return sorted(int(p.name) for p in self.folder.iterdir() if p.name.isdecimal() and p.is_dir() and int(p.name))

    def _place(self, number: int) -> Path:
        return self.folder / f"{number:04d}"

    def _lock(self) -> FileLock:
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / ".lock", timeout=60)
