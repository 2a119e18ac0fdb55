"""Convert the accepted forms of a sequence to a volume."""

from __future__ import annotations

import itertools
import os
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor

from ..cases import Volume, split_channel
from ..errors import CaseError

_EXPECTED = "a path, a nibabel image, a MetaTensor, or an array with its affine: (array, affine)"
_numbers = itertools.count(1)


def as_source(sequence: str, given: Any) -> str | Volume:
    """Return a path as a string, and any other form as a ``Volume`` (3D, float32, voxel to RAS mm).

    Args:
        sequence: name of the sequence, for errors.
        given: path, ``Volume``, nibabel image, MetaTensor ``(X, Y, Z)`` or ``(1, X, Y, Z)``, or ``(array, affine)``.

    Raises:
        CaseError: for anything else, or an invalid affine.
    """
    if isinstance(given, str | os.PathLike):
        return str(given)
    if isinstance(given, Volume) and Path(split_channel(given.path)[0]).is_file():
        return given
    name = f"{sequence} (in memory, {next(_numbers)})"  # a unique name, which distinguishes this image from any other
    if isinstance(given, Volume):
        given = given.array, given.affine
    if isinstance(given, nib.spatialimages.SpatialImage):
        array, affine = given.dataobj, given.affine
    elif isinstance(given, MetaTensor):
        array, affine = given, given.affine
    elif isinstance(given, tuple | list) and len(given) == 2:
        array, affine = given
    else:
        raise CaseError(sequence, f"a {type(given).__name__}", _EXPECTED)
    try:
        # A copy: the case may have to be encoded again after the caller has changed the array.
        array, affine = _numbers_of(array, np.float32), _numbers_of(affine, np.float64)
    except (TypeError, ValueError, OSError, EOFError, zlib.error) as reason:
        raise CaseError(name, f"no readable numbers ({' '.join(str(reason).split())[:100]})", _EXPECTED) from reason
    if isinstance(given, MetaTensor) and array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 3 or min(array.shape) < 2:
        raise CaseError(name, f"an image of shape {' x '.join(map(str, array.shape))}", "a 3D image")
    if not (volume := Volume(array, affine, name)).grid.valid:
        raise CaseError(name, f"the affine {np.round(affine, 3).tolist()}", "4 x 4, from voxel to mm")
    return volume


def path_of(source: str | Volume) -> str:
    """Return the path of a source, or the unique name of an image given in memory."""
    return source.path if isinstance(source, Volume) else source


def _numbers_of(value: Any, dtype: type) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().as_subclass(torch.Tensor).numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"values of type {array.dtype}")
    return array.astype(dtype)  # always a copy


def identity_of(source: str | Volume) -> tuple:
    """Return a value that changes if a source changes: for a file, from its path, channel, mtime and size."""
    path, channel = split_channel(path_of(source))
    try:
        status = Path(path).stat()
    except OSError:
        return (path,)
    return (str(Path(path).resolve()), channel, status.st_mtime_ns, status.st_size)
