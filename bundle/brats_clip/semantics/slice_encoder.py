"""Encode representative slices of a volume with CLIP: one token per slice."""

import copy

import torch
from torch import nn

from .clip import ClipEncoder
from .slices import SliceSelector


class SliceEncoder(nn.Module):
    """Select representative slices of whole volumes and encode them with a frozen CLIP, once per case.

    It can be compiled with ``torch.jit.script`` if the CLIP's visual encoder can, such as open_clip's own
    VisionTransformer and ResNet.

    Args:
        clip: the CLIP whose visual encoder is copied.
        slices_per_plane: number of slices for each of the three planes.
    """

    def __init__(self, clip: ClipEncoder, slices_per_plane: int = 4):
        super().__init__()
        self.selector = SliceSelector(slices_per_plane, clip.image_size)
        # Copied, so that moving the network to a device does not move part of the CLIP that encodes reports.
        self.vision = copy.deepcopy(clip.vision)
        self.eval()

    def train(self, mode: bool = True):
        """Stay in evaluation mode, because the encoder is frozen."""
        return super().train(False)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode whole volumes, without gradients.

        Args:
            image: ``(N, 4, D, H, W)``, T1, T1ce, T2, FLAIR, z-scored over the brain, zero outside, axes RAS.

        Returns:
            Tokens ``(N, S, E)`` of unit norm with ``S = 3 * slices_per_plane``, and positions ``(N, S, 2)``: the plane
            (0 sagittal, 1 coronal, 2 axial) and the slice's centre in [-1, 1] of the volume.
        """
        with torch.no_grad():
            slices, positions = self.selector(image)
            tokens = self.vision(slices.flatten(0, 1))
            return tokens.reshape(slices.shape[0], slices.shape[1], -1), positions
