"""Encode reports as tokens, one per sentence, without truncation."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
import torch.nn.functional as F

from ..labels import REGIONS
from ..reports import split_sentences
from .clip import ClipEncoder

# Several wordings per region: their mean depends less on any one of them.
REGION_PROMPTS: dict[str, tuple[str, ...]] = {
    "WT": (
        "the whole tumour with the surrounding oedema",
        "area of high signal on FLAIR",
        "peritumoural oedema and tumour",
        "T2 and FLAIR hyperintense lesion",
    ),
    "TC": (
        "the tumour core",
        "solid tumour with necrosis",
        "necrotic and enhancing core of the tumour",
        "non-enhancing and necrotic tumour core",
    ),
    "ET": (
        "enhancing tumour",
        "enhancement after contrast",
        "ring enhancement on T1 with contrast",
        "contrast-enhancing rim",
    ),
}

KNOWN_SENTENCES = 4096

# A long sentence is split after a clause, else after a word, else anywhere.
_BOUNDARIES = (r"(?<=[;:,])\s+", r"\s+")


def split_to_fit(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Split a text greedily, in reading order, into pieces that all satisfy ``fits``; no word is lost.

    Args:
        text: any text.
        fits: whether a piece is short enough; must hold for a single character.
    """
    return _pack(text.strip(), fits, list(_BOUNDARIES)) if text.strip() else []


def _pack(text: str, fits: Callable[[str], bool], boundaries: list[str]) -> list[str]:
    if fits(text):
        return [text]
    parts, joint = (re.split(boundaries[0], text), " ") if boundaries else (list(text), "")
    pieces: list[str] = []
    open_piece = ""
    for part in parts:
        longer = f"{open_piece}{joint}{part}" if open_piece else part
        if fits(longer):
            open_piece = longer
            continue
        if open_piece:
            pieces.append(open_piece)
        open_piece = part
        if not fits(part):
            *whole, open_piece = _pack(part, fits, boundaries[1:])
            pieces += whole
    return [*pieces, open_piece]


def encode_report(text: str, clip: ClipEncoder, known: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
    """Encode a report as ``(R, E)`` of unit norm: one token per sentence, in order.

    A sentence longer than the CLIP's context becomes several tokens; nothing is truncated. ``""`` gives ``(0, E)``.

    Args:
        text: the report.
        clip: provides the text encoder.
        known: cache of encoded sentences, so that only changed sentences are encoded again. New sentences are added;
            beyond ``KNOWN_SENTENCES`` the oldest are dropped. For one CLIP; several threads may share it.
    """
    pieces = [piece for sentence in split_sentences(text) for piece in split_to_fit(sentence, clip.fits)]
    if known is None or not pieces:
        return clip.encode_texts(pieces)
    tokens = {piece: known.get(piece) for piece in pieces}
    new = [piece for piece, token in tokens.items() if token is None]
    tokens.update(zip(new, clip.encode_texts(new), strict=True))
    known.update((piece, tokens[piece]) for piece in new)
    for piece in list(known)[: max(len(known) - KNOWN_SENTENCES, 0)]:
        known.pop(piece, None)
    return torch.stack([tokens[piece] for piece in pieces])


def region_embeddings(clip: ClipEncoder) -> torch.Tensor:
    """Return text embeddings ``(3, E)`` of unit norm for WT, TC and ET, each the mean over several prompts."""
    means = [clip.encode_texts(REGION_PROMPTS[region]).mean(dim=0) for region in REGIONS]
    return F.normalize(torch.stack(means), dim=-1)
