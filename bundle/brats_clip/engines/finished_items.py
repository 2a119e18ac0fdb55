"""Access to the batch and output of an evaluator after an iteration, case by case."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from ..errors import InputError, LabelError
from ..geometry import TOLERANCE_MM, Grid


def finished_items(engine: Engine) -> list[dict[Hashable, Any]]:
    """Return one dictionary per case, merged from batch and output; the output takes precedence.

    Raises:
        TypeError: if the engine does not decollate its batches.
    """
    batch, output = engine.state.batch, engine.state.output
    if not (isinstance(batch, list) and isinstance(output, list)):
        raise TypeError(
            "this handler needs an evaluator with decollate=True, whose batch and output are lists of dicts"
        )
    return [{**b, **o} for b, o in zip(batch, output, strict=True)]


def volume_of(item: Mapping[Hashable, Any], key: str, case: str) -> np.ndarray:
    """Return the array of ``item[key]``, channels first ``(C, X, Y, Z)``.

    Raises:
        InputError: if the key is missing or the array is not 4D.
    """
    if key not in item:
        raise InputError(f"case {case}", f"no {key!r}", f"an array ({key!r} in the batch or the output)")
    value = item[key]
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if array.ndim != 4:
        raise InputError(f"case {case}", f"{key!r} of shape {array.shape}", "channels first, (C, X, Y, Z)")
    return array


def label_of(item: Mapping[Hashable, Any], key: str, case: str) -> np.ndarray:
    """Return the label map ``(X, Y, Z)`` of ``item[key]``, which is ``(1, X, Y, Z)``, as ``uint8``.

    Raises:
        InputError: if it is missing.
        LabelError: if it has more than one channel (regions, not labels) or values other than 0, 1, 2, 4.
    """
    array = volume_of(item, key, case)
    if array.shape[0] != 1:
        raise LabelError(f"case {case}", f"{key!r} with {array.shape[0]} channels", "one label map (1, X, Y, Z)")
    label = array[0].astype(np.uint8)
    known = (label <= 4) & (label != 3)
    if not known.all() or not np.array_equal(label, array[0]):
        raise LabelError(
            f"case {case}", f"values in {key!r} that are no labels", "0, 1, 2 and 4 (see brats_clip.labels)"
        )
    return label


def affine_of(item: Mapping[Hashable, Any], key: str, case: str) -> np.ndarray:
    """Return the affine ``(4, 4)``, voxel to RAS mm, of ``item[key]``.

    Raises:
        InputError: if the value has no affine.
    """
    value = item.get(key)
    if not isinstance(value, MetaTensor):
        raise InputError(f"case {case}", f"{key!r} without an affine", "a MetaTensor, which knows its geometry")
    return value.affine.detach().cpu().numpy().astype(np.float64)


def check_same_place(
    case: str, prediction: tuple[tuple[int, ...], np.ndarray], other: tuple[tuple[int, ...], np.ndarray], name: str
) -> None:
    """Check that a prediction is on the grid on which it is compared or shown: a shift would go unnoticed.

    Args:
        case: id of the case, for the message.
        prediction: shape (X, Y, Z) and affine (4, 4) of the prediction.
        other: shape and affine of the expected grid.
        name: name of the expected grid, for the message.

    Raises:
        LabelError: if the shapes differ, or two corners are more than ``TOLERANCE_MM`` apart.
    """
    (shape, affine), (other_shape, other_affine) = prediction, other
    expected = f"the grid of {name}, {tuple(other_shape)}: was the prediction inverted to the grid of its input?"
    if tuple(shape) != tuple(other_shape):
        raise LabelError(f"case {case}", f"a prediction of shape {tuple(shape)}", expected)
    away = Grid(shape, affine).distance_mm(Grid(other_shape, other_affine))
    if away > TOLERANCE_MM:
        raise LabelError(f"case {case}", f"a prediction that lies {away:.3g} mm away", expected)


def case_of(item: Mapping[Hashable, Any], key: str) -> str:
    """Return the id of a case, checked to be valid as a file or folder name.

    Raises:
        InputError: if it is missing or not a valid file name.
    """
    case = str(item.get(key) or "")
    if not case or case in (".", "..") or any(c in case for c in '/\\:*?"<>|\0'):
        raise InputError(f"key {key!r} of the case", repr(case), "an id that can name a file")
    return case
