"""Add CLIP tokens to a case, so that they are cached with it instead of computed per window or epoch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from monai.transforms import Transform

from ..reports import finding_features
from ..semantics import ClipEncoder, SliceEncoder, encode_report


def report_inputs(
    text: str, clip: ClipEncoder, known: dict[str, torch.Tensor] | None = None
) -> dict[str, torch.Tensor]:
    """Compute the network's inputs from a report.

    Args:
        text: the report; "" for none.
        clip: encodes the sentences.
        known: cache of encoded sentences, see ``encode_report``.

    Returns:
        ``report_tokens`` ``(R, E)``, one token per sentence, and ``report_mask`` ``(R,)``, all True; without a report
        one masked zero token, so that cases can be batched. ``report_findings`` ``(K, 1 + F)``, per finding a flag
        whether it is known, then its row of ``finding_features``.
    """
    tokens = encode_report(text, clip, known)
    mask = torch.ones(max(len(tokens), 1), dtype=torch.bool)
    if len(tokens) == 0:
        tokens, mask = torch.zeros(1, clip.embed_dim), ~mask
    return {"report_tokens": tokens, "report_mask": mask, "report_findings": finding_rows(text)}


def finding_rows(text: str) -> torch.Tensor:
    """Return the findings of a report, ``(K, 1 + F)``: a flag whether each is known, then its row of numbers."""
    features, known = (torch.from_numpy(array) for array in finding_features(text))
    return torch.cat([known.float().unsqueeze(1), features], dim=1)


class EncodeSemanticsd(Transform):
    """Encode the slices of the whole working volume and the report of a case.

    Reads ``image`` ``(4, D, H, W)`` (working grid, z-scored) and ``report`` (text, "" for none). Adds

    - ``slice_tokens`` ``(S, E)`` and ``slice_positions`` ``(S, 2)``;
    - ``report_tokens``, ``report_mask`` and ``report_findings``, see ``report_inputs``.

    Args:
        clip: the frozen CLIP.
        slices_per_plane: number of slices per plane.
        slices: False to encode only the report, where the network encodes the slices itself.
    """

    def __init__(self, clip: ClipEncoder, slices_per_plane: int = 4, slices: bool = True) -> None:
        self.clip = clip
        self.slice_encoder = SliceEncoder(clip, slices_per_plane) if slices else None

    def __call__(self, data: Mapping) -> dict:
        result = dict(data)
        if self.slice_encoder is not None:
            image = torch.as_tensor(data["image"]).as_subclass(torch.Tensor).float()
            tokens, positions = self.slice_encoder(image.unsqueeze(0))
            result["slice_tokens"], result["slice_positions"] = tokens[0], positions[0]
        return {**result, **report_inputs(data.get("report", ""), self.clip)}
