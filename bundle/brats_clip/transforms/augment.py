"""Random image augmentation, of nnU-Net's strength, that keeps the background exactly zero."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from monai.transforms import Compose, Randomizable, RandomizableTransform, Transform
from monai.utils import convert_to_tensor

from ..errors import InputError
from ..geometry import fill_slices
from ..reports import mirror_findings, swap_side
from ..semantics import ClipEncoder, SliceEncoder
from .encode_semantics import report_inputs


class RandMirrord(RandomizableTransform):
    """Exchange left and right: ``image`` and ``label`` along x, the sides in ``report`` and ``findings``, and the
    network's inputs from slices and report.

    Apply to the whole working volume, before any crop.

    Args:
        clip: encodes the slices of the mirrored image, and the report.
        slices_per_plane: as in ``EncodeSemanticsd``.
        prob: probability of mirroring.
    """

    def __init__(self, clip: ClipEncoder, slices_per_plane: int = 4, prob: float = 0.5) -> None:
        RandomizableTransform.__init__(self, prob)
        self.clip, self.slice_encoder = clip, SliceEncoder(clip, slices_per_plane)
        self._sentences: dict[str, torch.Tensor] = {}

    def __call__(self, data: Mapping) -> dict:
        self.randomize(None)
        if not self._do_transform:
            return dict(data)
        mirrored = {key: data[key].flip(1) for key in ("image", "label") if key in data}
        plain = mirrored["image"].as_subclass(torch.Tensor).float()
        tokens, positions = self.slice_encoder(plain.unsqueeze(0))
        mirrored.update(slice_tokens=tokens[0], slice_positions=positions[0])
        if data["report"]:
            report = swap_side(data["report"])
            mirrored.update(report=report, **report_inputs(report, self.clip, self._sentences))
        if data.get("findings"):
            mirrored["findings"] = mirror_findings(data["findings"])
        return {**data, **mirrored}


class RandPerSequenced(Randomizable, Transform):
    """Apply MONAI's array transforms, in order, to each sequence of ``image`` ``(C, D, H, W)`` separately.

    Voxels that are exactly 0 (background, or a missing sequence) stay 0.

    Args:
        transforms: the array transforms; each draws new parameters for each sequence.
        offset: added before and subtracted after the transforms. Coil shading multiplies intensities, but a z-scored
            image has mean 0; an offset of mean over standard deviation (about 3 in a brain) restores the scale.
    """

    def __init__(self, transforms: Sequence[Callable], offset: float = 0.0) -> None:
        self.transforms, self.offset = Compose(transforms), offset

    def set_random_state(self, seed: int | None = None, state=None) -> RandPerSequenced:
        super().set_random_state(seed, state)
        self.transforms.set_random_state(seed, state)
        return self

    def __call__(self, data: Mapping) -> dict:
        image = data["image"].clone()
        for channel in image.as_subclass(torch.Tensor):  # views: the image is changed in place
            inside = channel != 0
            if inside.any():
                changed = convert_to_tensor(self.transforms(channel[None] + self.offset), track_meta=False)[0]
                channel.copy_((changed - self.offset) * inside)
        return {**data, "image": image}


class RandThickSlices(RandomizableTransform):
    """Average a volume ``(1, D, H, W)`` over slices of ``thickness`` voxels along one axis, and interpolate back.

    Args:
        thickness: lowest and highest number of voxels.
        prob: probability of a change.
    """

    def __init__(self, thickness: Sequence[int] = (2, 7), prob: float = 0.15) -> None:
        RandomizableTransform.__init__(self, prob)
        if not 1 <= thickness[0] <= thickness[1]:
            raise InputError("thickness", str(tuple(thickness)), "two numbers of voxels, the lower one first")
        self.thickness = tuple(thickness)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        self.randomize(None)
        if not self._do_transform:
            return image
        kernel = [1, 1, 1]
        kernel[self.R.randint(3)] = int(self.R.randint(self.thickness[0], self.thickness[1] + 1))
        coarse = F.avg_pool3d(image[None], kernel, ceil_mode=True, count_include_pad=False)
        return fill_slices(coarse, kernel, image.shape[1:])[0]


class RandBrainMaskd(RandomizableTransform):
    """Shift or erode the brain mask of ``image``, to imitate variation in skull stripping.

    Args:
        largest: largest shift or erosion in voxels.
        prob: probability of a change.
    """

    def __init__(self, largest: int = 2, prob: float = 0.15) -> None:
        RandomizableTransform.__init__(self, prob)
        self.largest = largest

    def __call__(self, data: Mapping) -> dict:
        self.randomize(None)
        if not self._do_transform:
            return dict(data)
        image = data["image"]
        brain = (image.as_subclass(torch.Tensor) != 0).any(dim=0, keepdim=True)
        if self.R.random() < 0.5:
            size = 2 * int(self.R.randint(1, self.largest + 1)) + 1
            outside = F.max_pool3d((~brain)[None].float(), size, stride=1, padding=size // 2)[0]
            kept = outside == 0
        else:
            shift = [int(self.R.randint(-self.largest, self.largest + 1)) for _ in range(3)]
            kept = brain.roll(shift, dims=(1, 2, 3))
        return {**data, "image": image * kept}


class RandFieldOfViewd(RandomizableTransform):
    """Shorten the field of view of one sequence of ``image``: set it to zero beyond a random plane.

    Args:
        largest: largest share of the volume that is lost.
        prob: probability of a change.
    """

    def __init__(self, largest: float = 0.3, prob: float = 0.1) -> None:
        RandomizableTransform.__init__(self, prob)
        self.largest = largest

    def __call__(self, data: Mapping) -> dict:
        self.randomize(None)
        if not self._do_transform:
            return dict(data)
        image = data["image"].clone()
        channel, axis = int(self.R.randint(len(image))), int(self.R.randint(3))
        length = image.shape[axis + 1]
        lost = int(self.R.uniform(0.05, self.largest) * length)
        start = 0 if self.R.random() < 0.5 else length - lost
        image[channel].narrow(axis, start, lost).zero_()
        return {**data, "image": image}
