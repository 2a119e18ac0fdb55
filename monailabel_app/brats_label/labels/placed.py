"""Stored labels on the grid that is wanted today, which need not be the one they were stored on."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel as nib
import numpy as np

from ..cases.case import Case
from ..cases.disk_cache import key_of, touch
from ..cases.grid import Grid
from ..durable import durable_write
from ..errors import Refused
from .revision import ENDING, Revision
from .submission import Library

logger = logging.getLogger(__name__)


class PlacedLabels:
    """Shows labels on the images of their case as they are now.

    A label stays as it was stored. The reference of its case may have become another since: by a setting, since a
    sequence arrived, or since an image was replaced. Then the label is brought over by where its voxels lie in the
    head.

    Args:
        library: where images are.
        cache: folder for what can be made again.
    """

    def __init__(self, library: Library, cache: Path) -> None:
        self._library, self._cache = library, Path(cache)

    def file(self, case: Case, sequence: str, revision: Revision) -> Path:
        """A file with the label on the native grid of ``sequence``: its own where it lies there, else one from the
        cache, by the nearest voxel.

        Raises:
            NotFound, Refused, Unreachable: if the images cannot be used.
            Refused: if no voxel of the label lies in the reference.
        """
        lies = Grid.of(revision.path)
        if sequence == case.reference == revision.record.get("reference", sequence) and lies.same_as(
            Grid.of(self._library.image_file(case.images[sequence].image_id))
        ):
            return revision.path
        aligned = self._library.aligned(case)
        drawn_on = _drawn_on(revision, lies, case.reference, aligned.grids)
        if sequence == drawn_on and lies.same_as(aligned.grids[sequence]):
            return revision.path
        ways = [aligned.motions[s].tolist() if s in aligned.motions else None for s in (drawn_on, sequence)]
        ways += [(g.shape, g.affine.tolist()) for g in (aligned.grids[case.reference], aligned.grids[sequence])]
        name = f"{case.case_id}-{revision.number:04d}-{sequence}-{key_of(drawn_on, revision.record['sha256'], ways)}"
        path = self._cache / "labels" / f"{name}{ENDING}"
        if not path.exists():
            label = np.asarray(nib.load(revision.path).dataobj)
            placed = np.asarray(aligned.label_from(drawn_on, label, lies.affine)).astype(np.uint8)
            if label.any() and not placed.any():
                raise Refused(
                    f"Label {revision.number} of case {case.case_id} lies nowhere in {case.reference}, the reference "
                    f"now: found {lies}. Was the image replaced? Restore it, or label the case again."
                )
            with durable_write(path) as draft:
                nib.save(aligned.label_on(sequence, placed), draft)
            logger.info("label %s of case %s brought to the grid of %s", revision.number, case.case_id, sequence)
        touch([path], self._cache)
        return path


def _drawn_on(revision: Revision, lies: Grid, reference: str, grids: dict[str, Grid]) -> str:
    """The sequence that was the reference when a label was stored, as far as that can be told."""
    noted = revision.record.get("reference")
    if noted in grids:
        return noted
    return next((s for s in (reference, *grids) if lies.same_as(grids[s])), reference)
