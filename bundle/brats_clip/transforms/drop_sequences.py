"""Sequence dropout: train the network for cases with missing sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from monai.transforms import Randomizable, Transform

from ..cases import SEQUENCES
from ..errors import InputError
from ..semantics import ClipEncoder, SliceEncoder


class RandDropSequencesd(Randomizable, Transform):
    """Set one to three of the four sequences of ``image`` ``(4, D, H, W)`` to zero.

    Apply before any crop: CLIP encodes slices of the whole volume, and must not see the dropped sequences.

    Args:
        clip: encodes the slices of the remaining sequences.
        slices_per_plane: as in ``EncodeSemanticsd``.
        probability: probability of dropping any sequence.
        counts: relative frequencies of dropping one, two and three sequences.

    Raises:
        InputError: if the probabilities are invalid.
    """

    def __init__(
        self,
        clip: ClipEncoder,
        slices_per_plane: int = 4,
        probability: float = 0.3,
        counts: Sequence[float] = (0.5, 0.25, 0.25),
    ) -> None:
        if not 0 <= probability <= 1:
            raise InputError("probability", str(probability), "0 to 1")
        if len(counts) != len(SEQUENCES) - 1 or min(counts) < 0 or sum(counts) <= 0:
            raise InputError("counts", str(tuple(counts)), "a share each for one, two and three sequences")
        self.probability = probability
        self.counts = [c / sum(counts) for c in counts]
        self.slice_encoder = SliceEncoder(clip, slices_per_plane)

    def __call__(self, data: Mapping) -> dict:
        if self.R.random() >= self.probability:
            return dict(data)
        count = 1 + int(self.R.choice(len(self.counts), p=self.counts))
        dropped = self.R.permutation(len(SEQUENCES))[:count]
        image = data["image"].clone()
        image[torch.as_tensor(dropped)] = 0
        plain = image.as_subclass(torch.Tensor).float()
        tokens, positions = self.slice_encoder(plain.unsqueeze(0))
        return {**data, "image": image, "slice_tokens": tokens[0], "slice_positions": positions[0]}
