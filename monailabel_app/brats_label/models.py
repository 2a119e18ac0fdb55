"""Versions of the weights: the bundle's, and those trained here. One is in use; none is ever deleted."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, insert, select

from brats_clip.engines import load_weights
from brats_clip.errors import WeightsError
from brats_clip.evaluation import sha256_of

from .durable import atomic_folder, identity, sync
from .errors import NotFound
from .store import Store
from .store import weights as table
from .store import weights_uses as uses

logger = logging.getLogger(__name__)

WEIGHTS = "model.pt"


@dataclass(frozen=True)
class ModelVersion:
    """One version of the weights.

    Attributes:
        number: 0 for the bundle's weights; versions trained here count from 1.
        name: as shown to users and recorded in results: ``0.2.0``, or ``0.2.0+site.3`` if fine-tuned from it.
        path: the file of weights.
        sha256: of that file.
        metrics: Dice on the validation cases, as far as known.
        trained_on: case ids by side of the split ("training", "validation").
        parent: number of the version that the training started from; None for the bundle's weights.
        created: time in ISO 8601, UTC.
    """

    number: int
    name: str
    path: Path
    sha256: str
    metrics: Mapping[str, Any] = field(default_factory=dict)
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    parent: int | None = None
    created: str = ""


def bundled(path: Path, digest: str) -> ModelVersion:
    """Return version 0: the weights at ``path``, named after the version of their bundle, or after their SHA-256."""
    try:
        metadata = json.loads((path.parent.parent / "configs" / "metadata.json").read_text(encoding="utf-8"))
        name, metrics = str(metadata["version"]), metadata.get("eval_metrics", {})
    except (OSError, ValueError, KeyError, TypeError):  # the user's own weights, outside a bundle
        name, metrics = f"own.{digest[:8]}", {}
    created = datetime.fromtimestamp(int(path.stat().st_mtime), timezone.utc).isoformat()
    return ModelVersion(0, name, path, digest, metrics, created=created)


def as_json(version: ModelVersion) -> dict[str, Any]:
    """Return a version as clients see it: without its path."""
    return {key: value for key, value in asdict(version).items() if key != "path"}


class ModelRegistry:
    """Keeps the files of versions in ``folder/0001``, ``folder/0002`` and so on; the store has their metadata and which
    one is in use.

    Safe to use from several threads and processes: a new version appears atomically, and a change of the version in use
    is atomic, too.

    Args:
        folder: where versions are kept; created when the first is published.
        bundle_checkpoint: version 0; never moved or changed.
        store: has the tables ``weights`` and ``weights_uses``; None if version 0 is the only one.
    """

    def __init__(
        self, folder: str | os.PathLike, bundle_checkpoint: str | os.PathLike, store: Store | None = None
    ) -> None:
        self.folder, self.bundle_checkpoint, self.store = Path(folder), Path(bundle_checkpoint), store
        self._digest: tuple[tuple[str, int, int], str] | None = None

    def current(self) -> ModelVersion:
        """Return the version in use.

        Raises:
            WeightsError: if its weights are missing; ``use`` another version then.
        """
        if self.store is None:
            return self._bundled()
        with self.store.read() as connection:
            newest = select(uses.c.number).order_by(uses.c.id.desc()).limit(1)
            return self._version(connection.scalar(newest) or 0, connection)

    def name_in_use(self) -> str:
        """Return the name of the version in use; "none" if its weights are missing: cases can still be reviewed."""
        try:
            return self.current().name
        except WeightsError as error:
            logger.warning("no weights: %s; nothing can be segmented", error)
            return "none"

    def versions(self) -> list[ModelVersion]:
        """Return all versions by number; one whose weights are missing is left out, and logged."""
        found = []
        if self.store is not None:
            with self.store.read() as connection:
                found = self._trained(connection)
        try:
            return [self._bundled(), *found]
        except WeightsError as error:
            logger.warning("version 0 is left out: %s", error)
            return found

    def named(self, name: str) -> ModelVersion:
        """Return the version of this name.

        Raises:
            NotFound: if there is none; the error lists the names.
        """
        versions = self.versions()
        for version in versions:
            if version.name == name:
                return version
        names = ", ".join(version.name for version in versions)
        raise NotFound(f"No version {name[:80]!r} of the weights; there are {names}.")

    def find(self, weights: str | os.PathLike) -> ModelVersion | None:
        """Return the version trained here with the same weights file, by SHA-256; None if there is none."""
        digest = sha256_of(Path(weights))
        return next((v for v in reversed(self.versions()) if v.number and v.sha256 == digest), None)

    def publish(
        self,
        weights: str | os.PathLike,
        metrics: Mapping[str, Any],
        trained_on: Mapping[str, Any],
        parent: int | None = None,
    ) -> ModelVersion:
        """Store a copy of ``weights`` as a new version, and use it.

        Weights that are already a version are not added again, so an interrupted publication can be repeated.

        Args:
            weights: file with the network's state dict.
            metrics: Dice on the validation cases.
            trained_on: case ids by side of the split.
            parent: number of the version that the training started from; the version in use if None.

        Raises:
            WeightsError: if the file has no weights.
        """
        load_weights(weights)
        with self.store.write() as connection:
            digest = sha256_of(weights)
            known = [version for version in self._trained(connection) if version.sha256 == digest]
            content = {"sha256": digest, "metrics": dict(metrics), "trained_on": dict(trained_on)}
            version = known[-1] if known else self._add(connection, Path(weights), content, parent)
            _put_to_use(connection, version.number)
        logger.info("weights %s are in use", version.name)
        return version

    def use(self, number: int) -> ModelVersion:
        """Use a version, older or newer than the current one.

        Raises:
            NotFound: if there is no such version.
            WeightsError: if its file differs from the one that was published.
        """
        with self.store.write() as connection:
            numbers = [0, *(version.number for version in self._trained(connection))]
            if number not in numbers:
                raise NotFound(f"No version {number} of the weights; there are {', '.join(map(str, numbers))}.")
            version = self._version(number, connection)
            if number and sha256_of(version.path) != version.sha256:
                raise WeightsError(version.path, "another content than was published", f"sha256 {version.sha256}")
            _put_to_use(connection, number)
        logger.info("weights %s are in use", version.name)
        return version

    def _add(self, connection: Connection, file: Path, content: Mapping[str, Any], parent: int | None) -> ModelVersion:
        """Copy the weights to a new folder, then write the row."""
        parent_version = self.current() if parent is None else self._version(parent, connection)
        number = 1 + (connection.scalar(select(func.max(table.c.number))) or 0)
        # A folder without a row was left by a killed process, or its store was lost: reuse it only for equal weights.
        while (left := self._file(number)).exists() and sha256_of(left) != content["sha256"]:
            number += 1
        if not left.exists():
            for torn in self.folder.glob(".tmp-*"):  # left by killed processes: this one holds the write lock
                shutil.rmtree(torn, ignore_errors=True)
            with atomic_folder(left.parent) as draft:
                shutil.copyfile(file, draft / WEIGHTS)
            sync(self.folder)
        row = {
            "number": number,
            "name": f"{parent_version.name.split('+')[0]}+site.{number}",
            **content,
            "parent": parent_version.number,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        connection.execute(insert(table), row)
        return self._version(number, connection)

    def _version(self, number: int, connection: Connection) -> ModelVersion:
        if number == 0:
            return self._bundled()
        row = connection.execute(select(table).where(table.c.number == number)).mappings().one()
        path = self._file(number)
        if not path.is_file():
            raise WeightsError(path, "no file", f"the weights {row['name']}")
        return ModelVersion(path=path, **row)

    def _trained(self, connection: Connection) -> list[ModelVersion]:
        found = []
        for number in connection.scalars(select(table.c.number).order_by(table.c.number)).all():
            try:
                found.append(self._version(number, connection))
            except WeightsError as error:
                logger.warning("version %d is left out: %s", number, error)
        return found

    def _bundled(self) -> ModelVersion:
        path = self.bundle_checkpoint
        if not path.is_file():
            raise WeightsError(path, "no file", "the weights to start from")
        now = identity(path)
        if self._digest is None or self._digest[0] != now:
            self._digest = now, sha256_of(path)
        return bundled(path, self._digest[1])

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:04d}" / WEIGHTS


def _put_to_use(connection: Connection, number: int) -> None:
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    connection.execute(insert(uses), {"number": number, "since": since})
