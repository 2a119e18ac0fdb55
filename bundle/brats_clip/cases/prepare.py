"""Prepare raw images of a case: register, extract the brain, resample to one grid.

The network needs four skull-stripped sequences on one grid. ``prepare`` inspects each sequence and does only the
missing steps. It records them in a :class:`Preparation`, which maps labels back to every native series.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import CaseError, InputError
from ..geometry import Grid, find_placement, place, resample
from ..images import Volume
from .background import clear_background, is_stripped, look_at_background, solid
from .brain import extract_brain
from .naming import REFERENCE, SEQUENCES
from .registration import register

MODES = ("auto", "always", "never")

_WORKING_MM = 1.0
_MARGIN_MM = 8.0  # around the brain, on the working grid
_COARSER = 1.5  # T1ce is not the reference if its slices are this many times thicker than another sequence's
_LEAST_COVERED, _WELL_COVERED = 0.5, 0.9  # share of the brain that lies in a sequence's field of view
# Share of the mutual information lost at a shift of 6 mm: 0.6 for the series of one exam, 0.03 for a failed search.
_LEAST_PEAK, _NO_PEAK = 0.15, 0.03
# T1 first: on T1 the extractor agrees best with other extractors.
_FOR_EXTRACTION = ("t1", "t1ce", "t2", "flair")
# The mask is the mean of those of T1 and T1ce: thick slices spoil either. Below this Dice, one of them is wrong.
_SECOND_EXTRACTION, _LEAST_AGREEMENT = _FOR_EXTRACTION[:2], 0.9
_REGISTERED_AT_ONCE = 2  # of three: T2 takes as long as the two others


@dataclass(frozen=True, eq=False)
class Preparation:
    """How the sequences of a case were brought onto one grid.

    Attributes:
        reference: the sequence that defines the axes and world space of the working grid.
        working: the grid of all prepared sequences and of the segmentation.
        native: the grid of each sequence as it was given.
        motions: ``(4, 4)`` by sequence, from RAS mm of the reference to RAS mm of the sequence.
        notes: sentences on what was done.
    """

    reference: str
    working: Grid
    native: Mapping[str, Grid]
    motions: Mapping[str, np.ndarray]
    notes: Sequence[str] = field(default_factory=list)

    @property
    def resampled_sequences(self) -> list[str]:
        """The sequences whose native voxels differ from those of the working grid."""
        return [
            sequence
            for sequence, grid in self.native.items()
            if not (grid.same_as(self.working) and np.array_equal(self.motions[sequence], np.eye(4)))
        ]

    def to_native(self, label: np.ndarray, sequence: str) -> np.ndarray:
        """Resample a label ``(X, Y, Z)`` from the working grid to the native grid of ``sequence``, nearest voxel."""
        across = np.linalg.inv(self.motions[sequence])
        return resample(label, self.working, self.native[sequence], across, linear=False)

    def from_native(self, label: np.ndarray, sequence: str) -> np.ndarray:
        """Resample a label from the native grid of ``sequence`` to the working grid, nearest voxel."""
        return resample(label, self.native[sequence], self.working, self.motions[sequence], linear=False)

    def to_json(self) -> str:
        """Serialise to JSON text, which a data loader can pass on."""
        grids = {name: {"shape": g.shape, "affine": g.affine.tolist()} for name, g in self.native.items()}
        return json.dumps(
            {
                "reference": self.reference,
                "working": {"shape": self.working.shape, "affine": self.working.affine.tolist()},
                "native": grids,
                "motions": {name: motion.tolist() for name, motion in self.motions.items()},
                "notes": list(self.notes),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Preparation:
        """Restore a preparation from the text of ``to_json``."""
        content = json.loads(text)
        native = {name: Grid(g["shape"], g["affine"]) for name, g in content["native"].items()}
        motions = {name: np.array(motion, float) for name, motion in content["motions"].items()}
        working = Grid(content["working"]["shape"], content["working"]["affine"])
        return cls(content["reference"], working, native, motions, content["notes"])


def prepare(
    volumes: Mapping[str, Volume],
    mode: str = "auto",
    brain: Volume | None = None,
    reference: str | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> tuple[dict[str, Volume], Preparation | None]:
    """Bring sequences to one grid, and set everything outside the brain to 0.

    Stripped images on one grid are returned unchanged. Stripped images whose voxels differ only in the order and
    direction of their axes are reoriented without interpolation. Otherwise the other sequences are registered to the
    sequence in which the brain is found, everything outside the brain becomes 0, and images on different grids are
    resampled: to the grid of the reference if all are stripped, else to 1 mm around the brain.

    Args:
        volumes: by sequence, as read.
        mode: "auto" does the missing steps; "always" registers and extracts the brain whatever the images look like;
            "never" leaves them as they are.
        brain: a brain mask on the grid of one of the sequences; None extracts the brain.
        reference: the sequence that defines the axes and world space of the working grid; None takes T1ce, unless
            another sequence has far thinner slices.
        on_step: progress callback, called with the name of each step before it starts, such as "register t2".

    Raises:
        InputError: for an unknown mode.
        CaseError: if no brain is found, a sequence shows less than half of it or cannot be registered, or the mask is
            empty or on the grid of no sequence.
    """
    if mode not in MODES:
        raise InputError("preprocess", repr(mode), f"one of {', '.join(MODES)}")
    if mode == "never" or not volumes:
        return dict(volumes), None
    volumes = {sequence: volumes[sequence] for sequence in SEQUENCES if sequence in volumes}
    native = {sequence: volume.grid for sequence, volume in volumes.items()}
    one_grid = _on_one_grid(volumes)
    stripped = {s: mode == "auto" and brain is None and is_stripped(v) for s, v in volumes.items()}
    if all(stripped.values()) and one_grid:
        return dict(volumes), None
    reference = reference or _choose_reference(native)
    if all(stripped.values()):
        turned = _turn(volumes, reference)
        if turned:
            notes = [f"{s}: axes turned to those of {reference}" for s in volumes if turned[s] is not volumes[s]]
            motions = dict.fromkeys(volumes, np.eye(4))
            return turned, Preparation(reference, native[reference], native, motions, notes)
    volumes, notes = _clear_each(volumes, stripped)
    on_step("find the brain")
    base, mask, source = _find_brain(volumes, stripped, brain, reference)
    extracted = brain is None and not any(stripped.values())

    def bring_to_base(sequence: str) -> tuple[np.ndarray, list[str], np.ndarray | None]:
        on_step(f"register {sequence}")
        motion, said = _register(volumes, base, sequence, mask)
        again = extracted and (base, sequence) == _SECOND_EXTRACTION
        return motion, said, _extract_again(volumes[sequence]) if again else None

    motions, others = {base: np.eye(4)}, [sequence for sequence in volumes if sequence != base]
    masks, notes_of_others = {base: mask}, []
    # SimpleITK releases the GIL, and a registration uses one thread.
    with ThreadPoolExecutor(_REGISTERED_AT_ONCE) as pool:
        for sequence, (motion, said, second) in zip(others, pool.map(bring_to_base, others), strict=True):
            motions[sequence] = motion
            notes_of_others += said
            if second is not None:
                masks[sequence] = second
    # The motions map from the base so far; make them map from the reference.
    back = np.linalg.inv(motions[reference])
    motions = {s: np.eye(4) if s == reference else motions[s] @ back for s in volumes}
    if one_grid or all(stripped.values()):
        working = native[reference]
    else:
        working = _around(mask, native[base], np.linalg.inv(motions[base]), native[reference])
    on_step("resample")
    # 1 in the brain, -1 beside it, 0 outside the field of view.
    shown = {s: resample(2 * m.astype(np.float32) - 1, native[s], working, motions[s]) for s, m in masks.items()}
    inside, source = _agree(*shown.values(), working) if len(shown) == 2 else (shown[base] > 0, source)
    notes += [source, *notes_of_others]
    prepared = {}
    for sequence, volume in volumes.items():
        array = volume.array
        if not (native[sequence].same_as(working) and np.array_equal(motions[sequence], np.eye(4))):
            array = resample(array, native[sequence], working, motions[sequence])
        if not (stripped[sequence] and stripped[base]):
            array = np.where(inside, array, np.float32(0))
        prepared[sequence] = volume if array is volume.array else Volume(array, working.affine, volume.path)
    spacing = " x ".join(f"{mm:.3g}" for mm in working.spacing)
    resampled = [s for s in volumes if not native[s].same_as(working)]
    if resampled:
        notes.append(f"{', '.join(resampled)}: resampled to {spacing} mm")
    return prepared, Preparation(reference, working, native, motions, notes)


def is_ready(volumes: Mapping[str, Volume]) -> bool:
    """Whether ``prepare`` in mode "auto" would change nothing: all sequences are stripped and on one grid."""
    return _on_one_grid(volumes) and all(is_stripped(volume) for volume in volumes.values())


def _on_one_grid(volumes: Mapping[str, Volume]) -> bool:
    first, *others = (volume.grid for volume in volumes.values())
    return all(grid.same_as(first) for grid in others)


def label_on_working_grid(label: Volume, preparation: Preparation) -> Volume | None:
    """Bring a label on the working grid or on a native grid to the working grid; None if it is on neither."""
    if label.grid.same_as(preparation.working):
        return label
    for sequence in sorted(preparation.native, key=lambda s: s != preparation.reference):
        if label.grid.same_as(preparation.native[sequence]):
            array = preparation.from_native(label.array, sequence)
            return Volume(array, preparation.working.affine, label.path)
    return None


def _choose_reference(native: Mapping[str, Grid]) -> str:
    """Return T1ce, unless another sequence has far thinner slices."""
    order = [s for s in (REFERENCE, *SEQUENCES) if s in native]
    finest = min(float(native[s].spacing.max()) for s in order)
    return next(s for s in order if native[s].spacing.max() <= _COARSER * finest)


def _turn(volumes: Mapping[str, Volume], reference: str) -> dict[str, Volume] | None:
    """Return all sequences on the reference's grid if reorienting the axes is enough; else None."""
    target, turned = volumes[reference], {}
    for sequence, volume in volumes.items():
        placement = find_placement(volume.grid, target.grid)
        if placement is None or not placement.complete or volume.array.size != target.array.size:
            return None
        array = volume.array
        if not volume.grid.same_as(target.grid):
            array = place(array, placement, target.array.shape)
        turned[sequence] = volume if array is volume.array else Volume(array, target.affine, volume.path)
    return turned


def _clear_each(volumes: Mapping[str, Volume], stripped: Mapping[str, bool]) -> tuple[dict[str, Volume], list[str]]:
    cleared, notes = {}, []
    for sequence, volume in volumes.items():
        done, said = clear_background({sequence: volume}) if stripped[sequence] else ({sequence: volume}, [])
        cleared.update(done)
        notes += said
    return cleared, notes


def _find_brain(
    volumes: Mapping[str, Volume], stripped: Mapping[str, bool], given: Volume | None, reference: str
) -> tuple[str, np.ndarray, str]:
    """Return the sequence in which the brain is known, its mask there, and a note on the source of the mask."""
    if given is not None:
        mask = given.array > 0.5
        if not mask.any():
            raise CaseError(given.path, "an empty brain mask", "a mask of the brain")
        for sequence in sorted(volumes, key=lambda s: s != reference):
            if given.grid.same_as(volumes[sequence].grid):
                return sequence, mask, f"brain mask {Path(given.path).name}, on the grid of {sequence}"
        raise CaseError(given.path, f"a brain mask on a grid of its own ({given.grid})", "the grid of one sequence")
    if any(stripped.values()):
        base = reference if stripped[reference] else next(s for s in volumes if stripped[s])
        return base, solid(volumes[base].array != 0), f"brain: nonzero voxels of {base}, already skull-stripped"
    failure = None
    for sequence in (s for s in _FOR_EXTRACTION if s in volumes):
        try:
            mask = extract_brain(volumes[sequence])
        except CaseError as problem:
            failure = failure or problem
            continue
        ml = float(mask.sum()) * volumes[sequence].grid.voxel_ml
        return sequence, mask, f"brain extracted from {sequence} by deepbet ({ml:.0f} ml)"
    expected = f"{failure.expected}; give a mask with --brain_mask, or use the images unchanged with --preprocess never"
    raise CaseError(failure.where, failure.found, expected)


def _extract_again(volume: Volume) -> np.ndarray | None:
    try:
        return extract_brain(volume)
    except CaseError:
        return None


def _agree(first: np.ndarray, second: np.ndarray, grid: Grid) -> tuple[np.ndarray, str]:
    """Return the mean of two masks and a note, or the first with a warning if they differ too much.

    Both are positive in the brain, negative beside it and 0 where the series shows nothing: there the other one counts.
    """
    names, known = _SECOND_EXTRACTION, (first != 0) & (second != 0)
    a, b = first[known] > 0, second[known] > 0
    dice = 2 * float((a & b).sum()) / max(1.0, float(a.sum() + b.sum()))
    if dice < _LEAST_AGREEMENT:
        note = f"that of {names[1]} differs (Dice {dice:.2f}): check the images"
        return first > 0, f"brain extracted from {names[0]} by deepbet; {note}"
    mask = solid(first + second > 0)
    ml = float(mask.sum()) * grid.voxel_ml
    return mask, f"brain extracted from {' and '.join(names)} by deepbet ({ml:.0f} ml, Dice {dice:.2f} between them)"


def _register(
    volumes: Mapping[str, Volume], base: str, sequence: str, brain: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """Return the matrix from RAS mm of ``base`` to RAS mm of ``sequence``, and notes."""
    fixed, moving = volumes[base], volumes[sequence]
    motion = register(fixed.array, fixed.grid, _above_zero(moving.array), moving.grid, brain)
    covered = _covered(brain, fixed.grid, moving.grid, motion.matrix if motion else np.eye(4))
    if covered < _LEAST_COVERED:
        found = f"{covered:.0%} of the brain that {base} shows"
        raise CaseError(moving.path, found, "images of one head, each with most of the brain")
    if motion is None and (fixed.grid.sheared or moving.grid.sheared):
        notes = [f"{sequence}: not registered, since its axes or those of {base} are sheared"]
    elif motion is None or motion.peak < _NO_PEAK:
        found = f"no match with {base}, so that it cannot be registered"
        raise CaseError(moving.path, found, "images of one head")
    elif motion.peak < _LEAST_PEAK:
        notes = [f"{sequence}: the registration to {base} is doubtful (peak {motion.peak:.2f}): check the images"]
    elif motion.moves:
        moved = f"moved {motion.moved_mm:.1f} mm, turned {motion.turned_degrees:.1f} degrees, peak {motion.peak:.2f}"
        notes = [f"{sequence}: registered to {base} ({moved})"]
    else:
        notes = [f"{sequence}: already aligned with {base} (peak {motion.peak:.2f})"]
    if covered < _WELL_COVERED:
        notes.append(f"{sequence}: shows only {covered:.0%} of the brain")
    return motion.matrix if motion else np.eye(4), notes


def _above_zero(array: np.ndarray) -> np.ndarray:
    lowest = array.min()
    return array - lowest if lowest < 0 and look_at_background(array).value == lowest else array


def _covered(brain: np.ndarray, grid: Grid, other: Grid, across: np.ndarray) -> float:
    """Return the share of the brain's voxels that lie inside the grid ``other``."""
    voxels = np.argwhere(brain)
    voxels = voxels[:: max(1, len(voxels) // 20_000)]
    there = np.linalg.inv(other.affine) @ across @ grid.affine
    index = voxels @ there[:3, :3].T + there[:3, 3]
    return float(((index > -0.5) & (index < np.array(other.shape) - 0.5)).all(axis=1).mean())


def _around(brain: np.ndarray, grid: Grid, across: np.ndarray, reference: Grid) -> Grid:
    """Return a 1 mm grid around the brain, along the reference's axes; ``across`` maps RAS mm to the reference's."""
    voxels = np.argwhere(brain)
    ends = np.array(np.meshgrid(*zip(voxels.min(axis=0) - 0.5, voxels.max(axis=0) + 0.5, strict=True))).reshape(3, -1)
    there = np.linalg.inv(reference.affine) @ across @ grid.affine
    index = there[:3, :3] @ ends + there[:3, 3:]
    margin = _MARGIN_MM / reference.spacing
    return reference.box(index.min(axis=1) - margin, index.max(axis=1) + margin, _WORKING_MM)
