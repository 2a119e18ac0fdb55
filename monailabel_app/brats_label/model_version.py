"""A version of the weights, and what is known of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ModelVersion:
    """One version of the weights.

    Attributes:
        number: 0 is the bundle's; those trained here count from 1.
        name: for people and results: ``0.2.0``, or ``0.2.0+site.3`` for what was trained from it.
        path: the file of weights.
        sha256: of that file.
        metrics: Dice on the validation cases, as far as known.
        trained_on: case ids by section.
        parent: number of the version that the training started from; None for the bundle's.
        created: when, in ISO 8601, UTC.
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
    """Version 0: the weights at ``path``, named by the bundle that they lie in, or by their content."""
    try:
        metadata = json.loads((path.parent.parent / "configs" / "metadata.json").read_text(encoding="utf-8"))
        name, metrics = str(metadata["version"]), metadata.get("eval_metrics", {})
    except (OSError, ValueError, KeyError, TypeError):  # weights of one's own, without a bundle around them
        name, metrics = f"own.{digest[:8]}", {}
    created = datetime.fromtimestamp(int(path.stat().st_mtime), timezone.utc).isoformat()
    return ModelVersion(0, name, path, digest, metrics, created=created)


def as_json(version: ModelVersion) -> dict[str, Any]:
    """What clients see of a version: all but where it lies."""
    return {key: value for key, value in asdict(version).items() if key != "path"}
