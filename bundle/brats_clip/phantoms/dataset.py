"""A dataset of synthetic patients that are generated during training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.data import MetaTensor
from monai.transforms import Randomizable
from torch.utils.data import Dataset

from ..errors import InputError
from .patient import draw_phantom


class PhantomDataset(Randomizable, Dataset):
    """Draws a new patient at each access; a drop-in replacement for a dataset of cases on disk.

    Args:
        length: patients per epoch.
        transform: applied to a case as from ``LoadCased``: ``image`` ``(4, X, Y, Z)``, ``label`` ``(1, X, Y, Z)``,
            ``report`` and ``case``, RAS at 1 mm.
        seed: of the sequence of patients. Data-loader workers are seeded by torch, so that each draws its own.
        shift: as in ``draw_phantom``.

    Raises:
        InputError: if ``length`` is below 1.
    """

    def __init__(self, length: int, transform: Callable | None = None, seed: int = 0, shift: float = 0.0) -> None:
        if length < 1:
            raise InputError("length", str(length), "at least one patient per epoch")
        self.length, self.transform, self.shift = length, transform, shift
        self.set_random_state(seed)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int):
        seed = int(self.R.randint(2**31))
        phantom = draw_phantom(seed, self.shift)
        affine = torch.from_numpy(phantom.affine)
        case = {
            "case": f"PHANTOM_{seed}",
            "image": MetaTensor(torch.from_numpy(phantom.image), affine=affine),
            "label": MetaTensor(torch.from_numpy(phantom.label)[None], affine=affine),
            "report": phantom.report,
        }
        return case if self.transform is None else self.transform(case)
