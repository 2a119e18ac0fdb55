"""Data to fit the quality prediction on: answers with their ground truth, case by case, cached on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from brats_clip import Segmenter
from brats_clip.cases import patient_of
from brats_clip.evaluation import region_dice
from brats_clip.evaluation.case_metrics import region_volumes_ml
from brats_clip.evaluation.labelled import read_truth
from brats_clip.evaluation.run_info import sha256_of
from brats_clip.geometry import Grid, find_placement, place
from brats_clip.images import atomic_write
from brats_clip.labels import REGIONS, label_to_regions, nest
from brats_clip.quality import Circumstances, Geometry
from brats_clip.quality.voxels import find_box, voxel_features
from brats_clip.transforms import clean_label

from .shared import WAYS, sequences_of

SAMPLES = 2000  # voxels per answer and region to fit the probabilities on


@dataclass
class Record:
    """One answer and its ground truth.

    Attributes:
        case, way: name of the case, and with or without a report.
        group: cases of one group are held out together: a fold, or a share of the phantoms.
        real: True for a scan, False for a phantom.
        logits: ``(3, D, H, W)``, float16, in the box that ``find_box`` returns.
        label, truth: predicted and true label map in that box, ``(D, H, W)``.
        brain: brain mask at every second voxel of the working grid, bool.
        inside: total number of voxels of the brain.
        outside: number of true voxels per region outside the box, ``(3,)``.
        corner: first voxel of the box.
        geometry, known: inputs of ``quality.assess``.
        dice, volume_ml: Dice of the answer and true volume per region, ``(3,)``.
        rows, targets, weights: sampled voxels: features ``(3, N, 3)``, truth and voxels represented ``(3, N)``.
    """

    case: str
    way: str
    group: str
    real: bool
    logits: np.ndarray
    label: np.ndarray
    truth: np.ndarray
    brain: np.ndarray
    inside: int
    outside: np.ndarray
    corner: np.ndarray
    geometry: Geometry
    known: Circumstances
    dice: np.ndarray
    volume_ml: np.ndarray
    rows: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


_ARRAYS = ("logits", "label", "truth", "brain", "inside", "outside", "corner", "dice", "volume_ml")
_ARRAYS += ("rows", "targets", "weights")


def read_records(segmenter: Segmenter, case: dict, folder: Path, seed: int, ways: Sequence[str] = WAYS) -> list[Record]:
    """Return the answers for a case with and without a report, from ``folder`` if they are cached.

    Args:
        segmenter: segmenter with weights that did not see the case.
        case: as from ``chosen_cases``, with its ``group`` and whether it is ``real``.
        folder: cache folder.
        seed: seed of written reports and of sampled voxels.
    """
    weights = sha256_of(segmenter.checkpoint)[:12]
    files = {way: folder / f"{weights}_{case['case']}_{way}.npz" for way in ways}
    if not all(path.is_file() for path in files.values()):
        truth = read_truth(case, seed)
        key = segmenter.set_case(**sequences_of(case), case=case["case"])
        for way, path in files.items():
            answer = segmenter.segment(report=truth.report if way == "with" else "")
            with atomic_write(path) as draft, draft.open("wb") as file:
                np.savez(file, **_content(segmenter, key, answer, truth.label, case["case"], seed))
        segmenter.forget(key)
    return [_read(path, case, way) for way, path in files.items()]


def _content(segmenter: Segmenter, key: str, answer, label: np.ndarray, name: str, seed: int) -> dict:
    encoded = segmenter._cache.get(key)
    decoded = next(reversed(encoded.decoded.values()))  # the last one used
    brain, native = encoded.facts.brain, encoded.native
    logits, grid = decoded.logits[0].float(), Grid(brain.shape, encoded.working_affine)
    truth = place(torch.from_numpy(label)[None], find_placement(native, grid), grid.shape)
    box = find_box(logits)
    whole, part = label_to_regions(truth).flatten(1).sum(dim=1), label_to_regions(box.of(truth))
    logits = box.of(logits).half()
    said = clean_label(nest(logits.float(), dim=0) > 0, grid.voxel_ml, *segmenter._quality.least_ml)
    rows, targets, counts = _sample(
        logits, part, box.of(brain), seed + int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
    )
    dice = region_dice(answer.label, label)
    return {
        "logits": logits.numpy(),
        "label": said[0].numpy(),
        "truth": box.of(truth)[0].numpy(),
        "brain": brain[::2, ::2, ::2].numpy(),
        "inside": int(brain.sum()),
        "outside": (whole - part.flatten(1).sum(dim=1)).numpy(),
        "corner": np.array(box.corner),
        "dice": np.array([dice[f"dice_{region}"] for region in REGIONS]),
        "volume_ml": np.array([*region_volumes_ml(label, answer.voxel_mm).values()]),
        "rows": rows,
        "targets": targets,
        "weights": counts,
        "affine": grid.affine,
        "native_affine": native.affine,
        "native_shape": np.array(native.shape),
        "missing": np.array(answer.sequences_missing, str),
        "consistency": _number(answer.consistency.score if answer.consistency else None),
    }


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _sample(logits: torch.Tensor, truth: torch.Tensor, brain: torch.Tensor, seed: int) -> tuple[np.ndarray, ...]:
    """Sample voxels of the brain, half of them doubtful, each with the number of voxels that it represents."""
    nested, near, far = voxel_features(logits)
    random, found = np.random.default_rng(seed), []
    inside = brain.numpy()
    for region in range(3):
        doubtful = inside & (nested[region].abs() < 4).numpy()
        rows, counts = [], []
        for group in (doubtful, inside & ~doubtful):
            places = np.argwhere(group)
            chosen = places[random.permutation(len(places))[: SAMPLES // 2]]
            rows.append(chosen)
            counts.append(np.full(len(chosen), len(places) / max(len(chosen), 1)))
        at = np.concatenate(rows)
        at = np.concatenate([at, np.zeros((SAMPLES - len(at), 3), int)])  # padding with weight 0
        count = np.concatenate([*counts, np.zeros(SAMPLES)])[:SAMPLES]
        fine, coarse = tuple(at.T), tuple((at // 2).T)
        features = [nested[region][fine], near[region][coarse], far[region][coarse]]
        found.append((torch.stack(features, dim=1).numpy(), truth[region][fine].numpy(), count))
    return tuple(np.stack(parts).astype(np.float32) for parts in zip(*found, strict=True))


def _read(path: Path, case: dict, way: str) -> Record:
    with np.load(path) as content:
        arrays = {name: content[name] for name in _ARRAYS}
        shape = tuple(int(n) for n in content["native_shape"])
        geometry = Geometry(content["affine"], content["native_affine"], shape)
        score = float(content["consistency"])
        known = Circumstances(tuple(content["missing"].tolist()), None if np.isnan(score) else score)
    arrays["inside"] = int(arrays["inside"])
    return Record(case["case"], way, case["group"], case["real"], geometry=geometry, known=known, **arrays)


def with_groups(cases: Sequence[dict], groups: Sequence[str], real: bool) -> list[dict]:
    """Assign a group to each case, to be held out in turn; all cases of a patient share one."""
    patients = {name: number for number, name in enumerate(sorted({patient_of(case["case"]) for case in cases}))}
    return [{**case, "real": real, "group": groups[patients[patient_of(case["case"])] % len(groups)]} for case in cases]
