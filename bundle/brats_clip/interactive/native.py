"""From the working grid to the grid of the case, without keeping the case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import MetaTensor

from ..geometry import Placement, place


@dataclass(frozen=True)
class ToNative:
    """Brings volumes ``(C, D, H, W)`` to the grid of the case, ``(C, X, Y, Z)``.

    Args:
        shape: of the case.
        placement: where the working grid lies in the native one; None if resampling lies between them.
        stub: a MetaTensor with the geometry of the working image and what was done to it.
        invert: undoes on ``pred`` what was done to ``image``; only needed without a placement, as is ``stub``.
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
