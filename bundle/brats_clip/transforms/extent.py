"""The position of a crop in the whole volume, without which "left" would be undefined for the crop."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform


def not_zero(image: torch.Tensor) -> torch.Tensor:
    """Return the brain of an image for ``CropForegroundd``, whose default (above 0) would cut off negative voxels."""
    return image != 0


class StoreWholeGridd(Transform):
    """Store the grid of the whole working volume as ``whole``; apply before any crop."""

    def __call__(self, data: Mapping) -> dict:
        image = data["image"]
        shape = torch.tensor(image.shape[1:], dtype=torch.float64)
        return {**data, "whole": torch.cat([torch.as_tensor(image.affine).double().flatten(), shape])}


class Extentd(Transform):
    """Add ``extent`` ``(3, 2)``: the low and high edge of ``image`` in the whole volume, each axis from -1 to 1.

    Compares the crop's affine, which MONAI's croppers keep up to date, with the grid of :class:`StoreWholeGridd`.
    """

    def __call__(self, data: Mapping) -> dict:
        image: MetaTensor = data["image"]
        whole, shape = data["whole"][:16].reshape(4, 4).numpy(), data["whole"][16:].numpy()
        # The crop may be rotated and scaled: only its centre and the lengths of its edges are used.
        crop = np.linalg.solve(whole, torch.as_tensor(image.affine).double().numpy())
        size = np.asarray(image.shape[1:])
        middle = crop[:3, :3] @ ((size - 1) / 2) + crop[:3, 3] + 0.5
        half = size * np.linalg.norm(crop[:3, :3], axis=0) / 2
        edges = np.stack([middle - half, middle + half], axis=1) / shape[:, None]
        result = {k: v for k, v in data.items() if k != "whole"}
        return {**result, "extent": torch.as_tensor(2 * edges - 1, dtype=torch.float32)}
