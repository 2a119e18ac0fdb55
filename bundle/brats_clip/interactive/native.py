"""Map volumes from the working grid to the native grid of a case, without keeping the case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor

from ..geometry import Placement, place


@dataclass(frozen=True)
class ToNative:
    """Maps volumes ``(C, D, H, W)`` to the native grid of the case, ``(C, X, Y, Z)``.

    Args:
        shape: shape of the native grid.
        placement: where the working grid lies in the native grid; None if they differ by resampling.
        stub: a MetaTensor with the geometry of the working image and the transforms applied to it.
        invert: inverts on ``pred`` the transforms of ``image``; like ``stub``, only needed without a placement.
    """

    shape: tuple[int, int, int]
    placement: Placement | None
    stub: MetaTensor | None = None
    invert: Callable[[dict], dict] | None = None

    def __call__(self, volumes: torch.Tensor) -> np.ndarray:
        volumes = volumes.float().cpu()
        if self.placement is not None:
            return place(volumes, self.placement, self.shape).numpy()
        pred = MetaTensor(volumes).copy_meta_from(self.stub, copy_attr=True)
        return torch.as_tensor(self.invert({"pred": pred, "image": self.stub})["pred"]).cpu().numpy()
