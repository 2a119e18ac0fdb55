"""Raw exams: the same synthetic patient with a skull, each sequence moved and on its own grid, with ground truth.

The ground truth is for registration, brain extraction and resampling. The reference is T1ce, which is not moved: its
world coordinates are the patient's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F

from .acquisition import draw_acquisition, shade
from .contrast import SEQUENCES
from .fields import Randomness, blur, on_one_thread
from .head import Head, draw_head
from .patient import AFFINE, Phantom, draw_subject, finish
from .traits import Traits
from .writer import case_folder

RAW_STREAM = 2
REFERENCE = "t1ce"
FILE_NAMES = {"t1": "T1", "t1ce": "T1_post", "t2": "T2", "flair": "FLAIR"}
FURTHEST_MM, FURTHEST_DEGREES = 15.0, 10.0
# Axis codes (two in-plane axes, slice axis) of axial, coronal and sagittal series, as DICOM converters write them.
ORIENTATIONS = {2: "LAS", 1: "LSA", 0: "PSR"}


@dataclass(frozen=True)
class Series:
    """One sequence as the scanner delivers it.

    Attributes:
        image: ``(I, J, K)`` int16, slices along the last axis.
        affine: voxel to the scanner's world, RAS mm.
        moved: ``(4, 4)`` rigid transform from the reference's world to this series' world, mm.
    """

    image: np.ndarray
    affine: np.ndarray
    moved: np.ndarray


@dataclass(frozen=True)
class RawPhantom:
    """A raw exam and its ground truth.

    Attributes:
        series: by name of ``SEQUENCES``.
        brain: ``(X, Y, Z)`` bool, 1 mm, RAS, on the grid of ``phantom``: everything within the dura. Brain extraction
            also keeps the fluid around the brain: on a clinical exam, HD-BET's mask includes a rim of it.
        phantom: the same patient skull-stripped and aligned; its affine maps to the world of the reference.
    """

    series: dict[str, Series]
    brain: np.ndarray
    phantom: Phantom


@on_one_thread
def draw_raw_phantom(
    seed: int | Sequence[int], shift: float = 0.0, traits: Mapping[str, object] | None = None
) -> RawPhantom:
    """Draw the raw exam of the patient that ``draw_phantom`` draws from the same arguments."""
    drawn_with = Randomness(seed, shift)
    subject = draw_subject(drawn_with, traits)
    phantom = finish(seed, drawn_with, subject)
    # A separate generator, so that a change of the head model does not change the brain.
    random = Randomness([int(s) for s in np.append(np.atleast_1d(seed), RAW_STREAM)], shift)
    head = draw_head(random, subject.tissue, subject.anatomy, subject.healthy.fluid)
    series = {s: _acquire_series(random, head, i, s, subject.traits, subject.flip) for i, s in enumerate(SEQUENCES)}
    canvas = tuple(slice(-o, n - o) for o, n in zip(head.origin, subject.anatomy.brain.shape, strict=True))
    brain = head.within_dura[canvas]
    return RawPhantom(series, (brain.flip(0) if subject.flip else brain).numpy().copy(), phantom)


def write_raw_phantom(raw: RawPhantom, folder: Path, case: str) -> Path:
    """Write ``folder/CASE/{T1,T1_post,T2,FLAIR}.nii.gz`` and the ground truth in ``folder/CASE/truth``.

    The truth: ``brain.nii.gz`` and ``label.nii.gz`` at 1 mm in the world of T1_post, ``transforms.json`` with the rigid
    transform of each series (from the world of T1_post to the world of the series, RAS mm, 4 x 4), the report and the
    findings. An interrupted call leaves no incomplete case folder.
    """
    with case_folder(folder, case) as draft:
        truth = draft / "truth"
        truth.mkdir()
        for sequence, series in raw.series.items():
            _save(series.image, series.affine, draft / f"{FILE_NAMES[sequence]}.nii.gz")
        phantom = raw.phantom
        _save(raw.brain.astype(np.uint8), phantom.affine, truth / "brain.nii.gz")
        _save(phantom.label, phantom.affine, truth / "label.nii.gz")
        transforms = {FILE_NAMES[s]: series.moved.tolist() for s, series in raw.series.items()}
        for name, content in (("transforms", transforms), ("findings", phantom.findings.to_dict())):
            (truth / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        (truth / "report.txt").write_text(phantom.report + "\n", encoding="utf-8")
    return Path(folder) / case


def draw_motion(random: Randomness) -> np.ndarray:
    """Draw a rigid transform ``(4, 4)`` of up to ``FURTHEST_MM`` and, about the origin, ``FURTHEST_DEGREES``."""
    axis, direction = random.scalar.normal(size=3), random.scalar.normal(size=3)
    angle = np.deg2rad(FURTHEST_DEGREES) * random.uniform(0, 1)
    distance = FURTHEST_MM * random.uniform(0, 1)
    k = np.cross(np.eye(3), axis / np.linalg.norm(axis))
    moved = np.eye(4)
    moved[:3, :3] = np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k
    moved[:3, 3] = distance * direction / np.linalg.norm(direction)
    return moved


def _acquire_series(random: Randomness, head: Head, index: int, sequence: str, traits: Traits, flip: bool) -> Series:
    """Sample the head on the grid of the series, averaged over the slice thickness, and add scanner faults."""
    poor = sequence == traits.poor_sequence
    how = draw_acquisition(random, sequence, traits.shading, poor)
    gap = random.uniform(0.0, 0.2) if how.thickness_mm > 1 else 0.0  # share of a slice that is not excited
    spacing = (how.thickness_mm + random.uniform(-0.3, 0.5)) if how.thickness_mm > 1 else random.uniform(0.9, 1.2)
    pixel = random.uniform(0.45, 1.1) if how.thickness_mm > 1 else random.uniform(0.9, 1.05)
    image = blur(head.image[index] * shade(random, head.depth, how), [max(how.blur_mm, 0.35 * pixel)] * 3)
    shape = np.array(image.shape)
    to_world = np.eye(4)  # of the enlarged grid, in the patient's world
    to_world[:3, 3] = AFFINE[:3, 3] + head.origin
    if flip:  # the phantom is mirrored about its own middle
        mirror = np.diag([-1.0, 1, 1, 1])
        mirror[0, 3] = shape[0] + 2 * head.origin[0] - 1
        to_world = mirror @ to_world
    centre = (to_world @ [*((shape - 1) / 2), 1])[:3]
    moved = np.eye(4) if sequence == REFERENCE else _about(draw_motion(random), centre)

    axis = how.axis if how.thickness_mm > 1 else int(random.choice([0, 2], [0.6, 0.4]))
    affine, size = _grid(random, shape, axis, pixel, spacing, (moved @ [*centre, 1])[:3])
    to_voxel = np.linalg.inv(to_world) @ np.linalg.inv(moved)
    steps = max(1, round(spacing * (1 - gap) / 1.5))
    total = torch.zeros(size)
    for k in range(steps):
        offset = np.eye(4)
        offset[2, 3] = (1 - gap) * ((k + 0.5) / steps - 0.5)
        total += _sample(image, to_voxel @ affine @ offset, size)
    taken = total / steps
    noise = torch.randn((2, *size), generator=random.field) * how.noise
    taken = ((taken + noise[0]) ** 2 + noise[1] ** 2).sqrt()
    scale = random.uniform(200, 1500)
    return Series((taken * scale).round().clamp(0, 32767).to(torch.int16).numpy(), affine, moved)


def _grid(random: Randomness, shape, axis: int, pixel: float, spacing: float, centre) -> tuple[np.ndarray, tuple]:
    """Return affine and size of a series that covers the head, with slices along ``axis``, sometimes oblique."""
    letters = ORIENTATIONS[axis]
    directions = nib.orientations.axcodes2ornt(letters)
    matrix = np.zeros((3, 3))
    for column, ((world, sign), step) in enumerate(zip(directions, (pixel, pixel, spacing), strict=True)):
        matrix[int(world), column] = sign * step
    tilt = draw_motion(random)[:3, :3] if random.chance(0.5) else np.eye(3)
    matrix = tilt @ matrix
    view = [shape[int(world)] for world, _ in directions]
    below = 0.0
    if axis == 2:  # axial slices end below the skull base, not at the shoulders
        below = random.uniform(20, 55)
        view[2] -= below
    plane = int(np.ceil(max(view[:2]) / pixel / 16) * 16)
    size = (plane, plane, int(np.ceil(view[2] / spacing)))
    affine = np.eye(4)
    affine[:3, :3] = matrix
    middle = np.asarray(centre, float) + np.array([0, 0, below / 2])
    affine[:3, 3] = middle - matrix @ ((np.array(size) - 1) / 2)
    return affine, size


def _about(rigid: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return ``rigid`` with its rotation about ``centre`` instead of about the origin."""
    out = rigid.copy()
    out[:3, 3] += centre - rigid[:3, :3] @ centre
    return out


def _sample(image: torch.Tensor, to_voxel: np.ndarray, size: tuple[int, ...]) -> torch.Tensor:
    """Interpolate ``image`` at the voxels of a grid of ``size`` that ``to_voxel`` ``(4, 4)`` maps to its own."""
    theta = _to_unit(image.shape) @ to_voxel @ np.linalg.inv(_to_unit(size))
    theta = torch.as_tensor(theta[:3][::-1][:, [2, 1, 0, 3]].copy(), dtype=torch.float32)
    grid = F.affine_grid(theta[None], [1, 1, *size], align_corners=True)
    return F.grid_sample(image[None, None], grid, align_corners=True)[0, 0]


def _to_unit(size: Sequence[int]) -> np.ndarray:
    """Return the matrix ``(4, 4)`` from voxel indices to the coordinates of ``grid_sample``, -1 to 1."""
    out = np.diag([*(2 / (np.array(size) - 1)), 1.0])
    out[:3, 3] = -1
    return out


def _save(volume: np.ndarray, affine: np.ndarray, path: Path) -> None:
    image = nib.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
