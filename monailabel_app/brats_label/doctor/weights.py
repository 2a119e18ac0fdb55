"""The bundle: its weights and its CLIP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .finding import OK, PROBLEM, WARNING, Finding

if TYPE_CHECKING:
    from ..settings import Workspace


def weights(bundle: Path, checkpoint: Path, workspace: Workspace | None) -> Iterator[Finding]:
    """Whether the weights in use are there, load, fit the network, and are those they are said to be.

    Args:
        bundle: its folder.
        checkpoint: the weights of version 0.
        workspace: where the server keeps those that were trained; None if it is not known.
    """
    from brats_clip import Segmenter
    from brats_clip.errors import BratsClipError
    from brats_clip.evaluation import sha256_of

    from ..models import ModelRegistry
    from ..store import Store

    kept = workspace is not None and workspace.store.exists()
    versions = workspace.models if kept else bundle / "no versions"
    try:
        version = ModelRegistry(versions, checkpoint, Store(workspace.store) if kept else None).current()
        Segmenter(bundle=bundle, checkpoint=version.path, device="cpu", cache_bytes=0)
    except (BratsClipError, OSError) as error:
        mend = f"put the weights back, or name others with --conf checkpoint FILE (now {checkpoint})"
        if str(versions) in str(error):
            mend = "put another version to use: POST /model/versions/0/use"
        yield Finding("weights", PROBLEM, str(error), mend)
        return
    digest = sha256_of(version.path)
    if version.number and digest != version.sha256:
        mend = "put another version to use: POST /model/versions/0/use"
        yield Finding("weights", PROBLEM, f"{version.name}: not the file that was published (sha256)", mend)
    elif not version.number and checkpoint.parent.parent == bundle and not _known(bundle, digest):
        says = f"{version.name} load and fit, but are not those of the bundle's README (sha256 {digest[:16]}...)"
        yield Finding("weights", WARNING, says, "expected if you trained them; else put them back")
    else:
        yield Finding("weights", OK, f"{version.name} load and fit (sha256 {digest[:16]}...)")


def clip(bundle: Path) -> Iterator[Finding]:
    """Whether the bundle's CLIP is there and loads."""
    from monai.bundle import ConfigParser

    from brats_clip.errors import WeightsError
    from brats_clip.semantics import load_clip

    config = ConfigParser()
    config.read_config(bundle / "configs" / "inference.json")
    config["bundle_root"] = str(bundle)
    try:
        yield Finding("CLIP", OK, load_clip(config.get_parsed_content("clip_source")).describe())
    except WeightsError as error:
        yield Finding("CLIP", PROBLEM, str(error), "put the folder back: git checkout -- bundle/models/clip")


def _known(bundle: Path, digest: str) -> bool:
    """Whether the bundle's README names this sum, or the start of it."""
    readme = bundle / "docs" / "README.md"
    named = re.findall(r"\b[0-9a-f]{16,64}\b", readme.read_text(encoding="utf-8")) if readme.is_file() else []
    return any(digest.startswith(start) for start in named)
