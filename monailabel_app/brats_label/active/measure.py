"""Measure a case: how sure the network is of its tumour, what it looks like to CLIP, and what the report changes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from os import PathLike

import numpy as np
from scipy import ndimage

from brats_clip import Segmenter
from brats_clip.evaluation.metrics import crop_to_union, dice
from brats_clip.labels import REGIONS

from .scores import CaseScores

GROW_MM = 4.0  # about the border that readers disagree on
LEAST_ML = 0.05  # of what the network almost predicted; smaller pieces are removed from answers, too


def measure(
    segmenter: Segmenter,
    case_id: str,
    files: Mapping[str, str | PathLike],
    report: str = "",
    version: str = "",
    identity: str = "",
) -> CaseScores:
    """Measure a case with what ``segmenter`` shows of it. The case is read and encoded once, and forgotten then.

    Volumes and entropy are those of the answer that a person gets: with the report where there is one.

    Args:
        segmenter: not used by anybody else meanwhile.
        case_id: for the result.
        files: paths by sequence, on one grid; up to three may be missing.
        report: text; "" for none.
        version: of the segmenter's weights, for the result.
        identity: of the case, for the result.

    Raises:
        brats_clip.errors.InputError: for files that cannot be used.
    """
    started = time.perf_counter()
    key = segmenter.set_case(**files, case=case_id)
    try:
        unprompted = segmenter.segment(case=key)
        answer = segmenter.segment(report=report, case=key) if report.strip() else unprompted
        probabilities = answer.probabilities
    finally:
        segmenter.forget(key)
    entropy = {r: region_entropy(answer.masks[r], probabilities[r], answer.voxel_mm) for r in REGIONS}
    disagreement = 0.0
    if answer is not unprompted:
        maps = crop_to_union(answer.label, unprompted.label)
        pairs = ([np.isin(label, values) for label in maps] for values in REGIONS.values())
        disagreement = float(np.mean([1.0 - dice(*pair) for pair in pairs]))
    score = None if answer.consistency is None else answer.consistency.score
    return CaseScores(
        case_id=case_id,
        version=version,
        identity=identity,
        volumes_ml={region: round(ml, 3) for region, ml in answer.volumes_ml.items()},
        entropy={region: round(bits, 5) for region, bits in entropy.items()},
        descriptor=answer.descriptor,
        disagreement=round(disagreement, 5),
        consistency=None if score is None else round(float(score), 5),
        has_report=bool(report.strip()),
        seconds=round(time.perf_counter() - started, 3),
    )


def region_entropy(mask: np.ndarray, probability: np.ndarray, voxel_mm: Sequence[float]) -> float:
    """Mean binary entropy, in bits, over a region as predicted and the ``GROW_MM`` around it.

    Where nothing was predicted, the region is taken to be what the network came closest to: the connected piece around
    the highest probability in which it is at least half as high. Below ``LEAST_ML`` that is nothing, and the entropy
    0: the network is sure that the region is absent.

    Args:
        mask: the region, bool ``(X, Y, Z)``.
        probability: ``(X, Y, Z)``.
        voxel_mm: voxel sizes, mm.
    """
    if not mask.any():
        mask = almost_predicted(probability, voxel_mm)
        if not mask.any():
            return 0.0
    box = _box(mask, [int(np.ceil(GROW_MM / size)) + 1 for size in voxel_mm])
    near = ndimage.distance_transform_edt(~mask[box], sampling=voxel_mm) <= GROW_MM
    p = np.clip(probability[box][near].astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean())


def almost_predicted(probability: np.ndarray, voxel_mm: Sequence[float]) -> np.ndarray:
    """The connected piece around the highest probability, down to half of it, bool ``(X, Y, Z)``; empty if small."""
    peak = np.unravel_index(np.argmax(probability), probability.shape)
    pieces, _ = ndimage.label(probability >= max(probability[peak] / 2, 1e-3))
    found = (pieces == pieces[peak]) & (pieces > 0)
    return found if found.sum() * np.prod(voxel_mm) / 1000 >= LEAST_ML else np.zeros_like(found)


def _box(mask: np.ndarray, margin: Sequence[int]) -> tuple[slice, ...]:
    (found,) = ndimage.find_objects(mask.astype(np.uint8))
    return tuple(slice(max(0, s.start - m), s.stop + m) for s, m in zip(found, margin, strict=True))
