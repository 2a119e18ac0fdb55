"""Transforms that turn a loaded case into slices, texts and statements for contrastive pretraining."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import RandomizableTransform, Transform
from torch.nn.utils.rnn import pad_sequence

from ..errors import ReportError
from ..reports import Findings, caption, mirror_findings, split_sentences, swap_side, write_report
from .attributes import CAPTION_ATTRIBUTES, attribute_targets
from .contrastive import UNKNOWN_WORD
from .report_encoder import split_to_fit
from .slices import SliceSelector


class DrawSlicesd(Transform):
    """Replace the image of a case by its slices ``(S, 3, image_size, image_size)``, uint8, for caching.

    Keeps ``case``, ``report`` and ``findings``; adds ``planes`` ``(S,)``.

    Args:
        slices_per_plane: number of slices per plane.
        image_size: side of a slice in pixels.
    """

    def __init__(self, slices_per_plane: int = 4, image_size: int = 96):
        self.selector = SliceSelector(slices_per_plane, image_size)

    def __call__(self, data: Mapping) -> dict:
        slices, positions = self.selector(torch.as_tensor(data["image"].as_tensor()).unsqueeze(0))
        kept = {key: data[key] for key in ("case", "report", "findings")}
        return {**kept, "slices": (slices[0] * 255).round().byte(), "planes": positions[0, :, 0].long()}


class MirrorCased(RandomizableTransform):
    """Swap left and right in slices, findings and report.

    Args:
        prob: probability of swapping.
    """

    def __init__(self, prob: float = 0.5):
        super().__init__(prob)

    def __call__(self, data: Mapping) -> dict:
        self.randomize(None)
        if not self._do_transform:
            return dict(data)
        findings = data["findings"]
        if findings is not None:
            findings = mirror_findings(findings)
        # A sagittal slice looks the same from either side.
        sagittal = (data["planes"] == 0).view(-1, 1, 1, 1)
        slices = torch.where(sagittal, data["slices"], data["slices"].flip(-1))
        return {**data, "slices": slices, "findings": findings, "report": swap_side(data["report"])}


class VarySlicesd(RandomizableTransform):
    """Draw some of a case's slices and vary their contrast, brightness, position and scale; float in [0, 1].

    Args:
        keep: number of slices per plane.
        contrast: largest relative change of contrast.
        brightness: largest change of brightness, as a share of the range.
        shift: largest shift in either direction, as a share of the image side.
        scale: largest relative change of scale.
    """

    def __init__(
        self,
        keep: int = 2,
        contrast: float = 0.25,
        brightness: float = 0.08,
        shift: float = 0.06,
        scale: float = 0.12,
    ):
        super().__init__(1.0)
        self.keep = keep
        self.contrast, self.brightness, self.shift, self.scale = contrast, brightness, shift, scale

    def __call__(self, data: Mapping) -> dict:
        planes = data["planes"].numpy()
        drawn = [self.R.permutation(np.flatnonzero(planes == plane))[: self.keep] for plane in np.unique(planes)]
        slices = data["slices"][torch.from_numpy(np.concatenate(drawn))].float() / 255
        gain = 1 + self.R.uniform(-self.contrast, self.contrast, (1, 3, 1, 1))
        offset = self.R.uniform(-self.brightness, self.brightness, (1, 3, 1, 1))
        brain = (slices > 0).any(dim=1, keepdim=True)
        slices = ((slices - 0.35) * torch.from_numpy(gain).float() + 0.35 + torch.from_numpy(offset).float()) * brain
        zoom = 1 + self.R.uniform(-self.scale, self.scale)
        x, y = self.R.uniform(-2 * self.shift, 2 * self.shift, 2)
        theta = torch.tensor([[[zoom, 0.0, x], [0.0, zoom, y]]], dtype=torch.float32).expand(len(slices), 2, 3)
        grid = F.affine_grid(theta, list(slices.shape), align_corners=False)
        slices = F.grid_sample(slices.clamp(0, 1), grid, align_corners=False)
        return {**data, "slices": slices}


class AllSlicesd(Transform):
    """Keep all slices of a case unchanged, as float in [0, 1]."""

    def __call__(self, data: Mapping) -> dict:
        return {**data, "slices": data["slices"].float() / 255}


class DrawTextsd(RandomizableTransform):
    """Draw texts about a case, as token ids, and the targets for them.

    With findings, every call writes a new text: a whole report, a caption, or one or two sentences of a report.
    Without findings, the whole given report or one or two of its sentences are drawn. ``fresh=False`` uses the whole
    given report unchanged; a case without a report gets one from its findings, always the same.

    Adds ``token_ids`` (a list of 1D tensors) and ``targets`` with ``image`` and ``text`` ``(V,)``. The ``text`` targets
    are zero for attributes that the text may not state: necrosis for a caption, all of them for single sentences.

    Args:
        tokenizer: of the CLIP.
        context_length: of the CLIP.
        fresh: draw a new text at each call.
        unknown_words: share of words replaced by unknown words, and of unknown words inserted, because real reports
            contain words that no phantom's report contains.

    Raises:
        ReportError: if a case has neither report nor findings.
    """

    def __init__(self, tokenizer: Callable, context_length: int = 77, fresh: bool = True, unknown_words: float = 0.1):
        super().__init__(1.0)
        self.tokenizer = tokenizer
        self.context_length = context_length
        self.fresh = fresh
        self.unknown_words = unknown_words

    def __call__(self, data: Mapping) -> dict:
        findings = None if data["findings"] is None else Findings.from_dict(data["findings"])
        if not data["report"].strip() and findings is None:
            raise ReportError(f"case {data['case']}", "neither report nor label", "at least one of them")
        texts, stated = self._draw(data["report"], findings)
        pieces = [piece for text in texts for piece in split_to_fit(text, self._fits)]
        targets = {"image": attribute_targets(findings), "text": attribute_targets(findings, stated)}
        return {
            "case": data["case"],
            "slices": data["slices"],
            "token_ids": [self._ids(piece) for piece in pieces],
            "targets": targets,
        }

    def _draw(self, report: str, findings: Findings | None) -> tuple[list[str], Sequence[str] | None]:
        """Return sentences, and the attributes that they state (``None`` = all)."""
        if not self.fresh:
            return split_sentences(report or write_report(findings, np.random.default_rng(0))), None
        rng = np.random.default_rng(self.R.randint(2**31))
        if findings is not None:
            kind = rng.choice(["report", "caption", "sentences"], p=[0.5, 0.25, 0.25])
            if kind == "caption":
                return [caption(findings, rng)], CAPTION_ATTRIBUTES
            report = write_report(findings, rng)
        else:
            kind = rng.choice(["report", "sentences"])
        sentences = split_sentences(report)
        if kind == "report":
            return sentences, None
        count = min(len(sentences), int(rng.integers(1, 3)))
        return [sentences[i] for i in sorted(rng.choice(len(sentences), count, replace=False))], ()

    def _fits(self, text: str) -> bool:
        # Leaves room for inserted words, and for the start and end tokens.
        return len(self.tokenizer.encode(text)) <= (self.context_length - 2) * (0.8 if self.fresh else 1.0)

    def _ids(self, text: str) -> torch.Tensor:
        ids: list[int] = []
        for token in self.tokenizer.encode(text):
            if self.fresh and self.R.rand() < self.unknown_words:
                ids.append(UNKNOWN_WORD)
            ids.append(UNKNOWN_WORD if self.fresh and self.R.rand() < self.unknown_words else token)
        ids = ids[: self.context_length - 2]
        return torch.tensor([self.tokenizer.sot_token_id, *ids, self.tokenizer.eot_token_id])


def collate_pairs(items: Sequence[Mapping]) -> dict:
    """Batch items of ``DrawTextsd``: texts are padded to ``token_ids`` ``(N, T, L)``, with ``text_mask`` ``(N, T)``."""
    ids = pad_sequence([text for item in items for text in item["token_ids"]], batch_first=True)
    counts = [len(item["token_ids"]) for item in items]
    return {
        "case": [item["case"] for item in items],
        "slices": torch.stack([item["slices"] for item in items]),
        "token_ids": pad_sequence(list(ids.split(counts)), batch_first=True),
        "text_mask": torch.arange(max(counts)) < torch.tensor(counts).unsqueeze(1),
        "targets": {kind: torch.stack([item["targets"][kind] for item in items]) for kind in ("image", "text")},
    }


def prepare_pairs(batch: Mapping, device: torch.device, non_blocking: bool = False, **_) -> tuple:
    """Split a batch for a MONAI engine: the network takes slices, token ids and mask, the loss takes the targets."""
    move = {"device": device, "non_blocking": non_blocking}
    targets = {kind: value.to(**move) for kind, value in batch["targets"].items()}
    texts = {key: batch[key].to(**move) for key in ("token_ids", "text_mask")}
    return batch["slices"].to(**move), targets, (), texts
