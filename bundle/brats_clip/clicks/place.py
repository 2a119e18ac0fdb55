"""Convert the clicks of a person to voxels of a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import InputError
from .kinds import KINDS

MAX_CLICKS = 1000
Clicks = Mapping[str, Sequence[Sequence[float]]] | Sequence[tuple[str, Sequence[float]]]
"""Positions by kind, or (kind, position) pairs in the order in which the clicks were made."""


def place_clicks(
    clicks: Clicks | None,
    shape: Sequence[int],
    affine: np.ndarray,
    space: str = "voxel",
    case: str = "",
) -> tuple[list[str], np.ndarray]:
    """Check clicks and turn them into voxels.

    Args:
        clicks: positions by kind (a key of ``KINDS``), ``{"ET": [(120, 80, 60)]}``, or ``(kind, position)`` pairs,
            ``[("ET", (120, 80, 60)), ("background", (60, 90, 40))]``. If clicks contradict each other, the later
            one counts; only pairs keep the order of clicks of different kinds.
        shape: of the case, ``(X, Y, Z)``.
        affine: of the case, voxel to RAS mm.
        space: "voxel" (0 is the centre of the first voxel) or "world" (RAS mm).
        case: name of the case, for errors.

    Returns:
        Kinds, and voxel indices ``(K, 3)``, one row per click in the given order.

    Raises:
        InputError: for an unknown kind or space, positions that are not three finite numbers or lie outside the
            volume, or more than 1000 clicks.
    """
    where = f"clicks of case {case}" if case else "clicks"
    if space not in ("voxel", "world"):
        raise InputError("space", repr(space), "'voxel' or 'world'")
    kinds: list[str] = []
    voxels = []
    to_voxel = np.linalg.inv(affine) if space == "world" else np.eye(4)
    for kind, positions in _groups(clicks, where):
        if not isinstance(kind, str) or kind not in KINDS:
            raise InputError(where, f"the kind {kind!r}", f"one of {', '.join(KINDS)}")
        points = _points(positions, kind, where)
        inside = np.rint(points @ to_voxel[:3, :3].T + to_voxel[:3, 3])
        out = ((inside < 0) | (inside >= np.asarray(shape))).any(axis=1)
        if out.any():
            unit = "voxel" if space == "voxel" else "mm"
            found = f"{kind} at {points[out][0].tolist()} ({unit}), outside the volume"
            raise InputError(where, found, f"a position in a volume of {' x '.join(map(str, shape))} voxels")
        kinds += [kind] * len(points)
        voxels.append(inside.astype(int))
    if len(kinds) > MAX_CLICKS:
        raise InputError(where, f"{len(kinds)} clicks", f"at most {MAX_CLICKS}")
    return kinds, np.concatenate(voxels) if kinds else np.zeros((0, 3), int)


def given_clicks(clicks: Clicks | None) -> list[dict[str, object]]:
    """Return the clicks in their given order, for a record: dicts with ``kind`` and ``position``."""
    return [
        {"kind": kind, "position": np.asarray(position).tolist()}
        for kind, positions in _groups(clicks, "clicks")
        for position in positions
    ]


def _groups(clicks: Clicks | None, where: str) -> list[tuple[str, Sequence[Sequence[float]]]]:
    """Return kinds with their positions; a pair has one position."""
    if clicks is None:
        return []
    if isinstance(clicks, Mapping):
        return list(clicks.items())
    expected = "positions by kind, such as {'ET': [[120, 80, 60]]}, or pairs, such as [['ET', [120, 80, 60]]]"
    if not isinstance(clicks, list | tuple):
        raise InputError(where, f"a {type(clicks).__name__}", expected)
    for pair in clicks:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise InputError(where, f"the pair {str(pair)[:60]}", expected)
    return [(kind, [position]) for kind, position in clicks]


def _points(positions: Sequence[Sequence[float]], kind: str, where: str) -> np.ndarray:
    expected = "a list of positions of three finite numbers each"
    try:
        points = np.asarray(positions, dtype=float)
    except (TypeError, ValueError):
        raise InputError(where, f"{kind}: {str(positions)[:60]}", expected) from None
    if points.size == 0:
        return np.zeros((0, 3))
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise InputError(where, f"{kind}: {str(positions)[:60]}", expected)
    return points
