"""Semantic-level fusion, third part: attention maps of the regions, from the embeddings of their descriptions."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SemanticAttention(nn.Module):
    """Compares each voxel with CLIP's embedding of each region's description.

    The maps are supervised, returned for display, and refine the prediction through ``refine``, which is initialised
    to zero.

    Args:
        channels: channels of the voxel features.
        region_embeddings: ``(K, E)``, one text embedding per region.
        refined: channels of the head's hidden layer, to which the refinement is added.
        dim: dimension of the embedding in which voxels and texts are compared.
        initial_logit: approximate initial value of the maps.
    """

    def __init__(
        self, channels: int, region_embeddings: Tensor, refined: int, dim: int = 16, initial_logit: float = -4.0
    ):
        super().__init__()
        self.register_buffer("region_embeddings", region_embeddings.detach().clone().float())
        self.voxel = nn.Conv3d(channels, dim, kernel_size=1)
        self.text = nn.Linear(region_embeddings.shape[1], dim)
        self.log_scale = nn.Parameter(torch.full((region_embeddings.shape[0],), math.log(5.0)))
        self.bias = nn.Parameter(torch.full((region_embeddings.shape[0],), initial_logit))
        self.refine = nn.Conv3d(region_embeddings.shape[0], refined, kernel_size=1, bias=False)
        nn.init.zeros_(self.refine.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps as logits ``(N, K, D, H, W)`` and the refinement ``(N, refined, D, H, W)`` for features
        ``(N, C, D, H, W)``."""
        voxel = self.voxel(x)
        # Descriptions of nested regions are similar: without their mean, the differences dominate.
        texts = self.region_embeddings - self.region_embeddings.mean(dim=0, keepdim=True)
        texts = F.normalize(self.text(F.normalize(texts, dim=1)).float(), dim=1)
        scaled = texts * self.log_scale.clamp(max=4.6).exp().unsqueeze(1)
        # Compute norms by a convolution with ones: in training, channel reductions are many times slower on a CPU.
        ones = torch.ones((1, texts.shape[1], 1, 1, 1), dtype=voxel.dtype, device=voxel.device)
        length = F.conv3d(voxel * voxel, ones).float().clamp(min=1e-4).rsqrt()
        similarity = F.conv3d(voxel, scaled[:, :, None, None, None].to(voxel.dtype))
        maps = similarity.float() * length + self.bias[:, None, None, None]
        return maps, self.refine(torch.sigmoid(maps).to(voxel.dtype))
