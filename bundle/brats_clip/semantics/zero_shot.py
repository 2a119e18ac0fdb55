"""Zero-shot use of a CLIP: compare prompts with texts or slices, and texts with slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

from .attributes import ATTRIBUTES
from .clip import ClipEncoder
from .report_encoder import encode_report


def nearest_statement(
    tokens: torch.Tensor, clip: ClipEncoder, prompts: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Compare tokens with statements; the highest value is the zero-shot prediction.

    Args:
        tokens: ``(T, E)``, of the sentences of a report or of slices.
        clip: encodes the prompts.
        prompts: wordings by statement; their embeddings are averaged.

    Returns:
        Mean cosine similarity by statement.
    """
    texts = torch.stack([F.normalize(clip.encode_texts(p).mean(dim=0), dim=0) for p in prompts.values()])
    similarity = (tokens @ texts.to(tokens).T).mean(dim=0)
    return dict(zip(prompts, similarity.tolist(), strict=True))


def side_of_report(text: str, clip: ClipEncoder) -> str:
    """Return "left" or "right", whichever the text is nearer to."""
    sides = {side: ATTRIBUTES["side"][side] for side in ("left", "right")}
    similarity = nearest_statement(encode_report(text, clip), clip, sides)
    return max(similarity, key=similarity.get)


def match_reports(slices: torch.Tensor, reports: Sequence[torch.Tensor]) -> torch.Tensor:
    """For each case of a group, find the report of the group that is nearest to its slices.

    Args:
        slices: tokens ``(N, S, E)``.
        reports: ``(R, E)`` for each case.

    Returns:
        ``(N,)``, indices of reports; correct where equal to ``arange(N)``.
    """
    images = F.normalize(slices.mean(dim=1), dim=1)
    texts = F.normalize(torch.stack([report.mean(dim=0) for report in reports]), dim=1)
    return (images @ texts.T).argmax(dim=1)
