"""Contrastive pretraining of the embedded CLIP: match the slices of a case with its report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import text_global_pool
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..precision import cpu_has_bf16
from .attributes import ATTRIBUTES, attribute_slices
from .embedded import EMBEDDED_CONFIG, build_embedded

# Token id of an unknown word. It keeps its position and has a zero embedding, as after zero_unseen_embeddings.
UNKNOWN_WORD = -1
_MAX_SCALE = 100.0


def encode_tokens(clip: open_clip.CLIP, token_ids: torch.Tensor) -> torch.Tensor:
    """Encode token ids ``(T, L)``, ``L`` up to the context, into ``(T, E)`` of unit norm.

    Equals ``clip.encode_text`` on ids without ``UNKNOWN_WORD``, and is faster for short texts.
    """
    length = token_ids.shape[1]
    known = (token_ids != UNKNOWN_WORD).unsqueeze(-1)
    x = clip.token_embedding(token_ids.clamp(min=0)) * known + clip.positional_embedding[:length]
    x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask[:length, :length]))
    x = text_global_pool(x, token_ids, clip.text_pool_type, eos_token_id=clip.text_eos_id)
    return F.normalize(x @ clip.text_projection, dim=-1)


@contextmanager
def _fast(device: torch.device) -> Iterator[None]:
    """On a CPU, use bf16 if supported, and the plain attention kernel, whose backward pass takes half the time."""
    if device.type != "cpu":
        yield
        return
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=cpu_has_bf16()), sdpa_kernel(SDPBackend.MATH):
        yield


class ContrastiveClip(nn.Module):
    """The embedded CLIP during training, with the statements of ``ATTRIBUTES`` as its prompts.

    Args:
        seed: of the initial weights.
        config: an open_clip config with ``model_cfg`` and ``preprocess_cfg``.
    """

    def __init__(self, seed: int = 0, config: Mapping = EMBEDDED_CONFIG):
        super().__init__()
        self.config = config
        self.clip = build_embedded(seed, config)
        self.tokenizer = open_clip.SimpleTokenizer(context_length=self.clip.context_length)
        for name in ("mean", "std"):
            value = torch.tensor(config["preprocess_cfg"][name]).view(1, 3, 1, 1)
            self.register_buffer(name, value, persistent=False)
        wordings = [words for values in ATTRIBUTES.values() for words in values.values()]
        most = max(len(words) for words in wordings)
        ids = torch.stack([self.tokenizer(list(words) * most)[:most] for words in wordings])
        self.register_buffer("prompt_ids", ids[..., : int((ids > 0).sum(-1).max())], persistent=False)

    def encode_prompts(self) -> torch.Tensor:
        """Encode the prompts as ``(V, E)`` of unit norm: in training one random wording each, else the mean of all."""
        count, most = self.prompt_ids.shape[:2]
        if self.training:
            chosen = torch.randint(most, (count,), device=self.prompt_ids.device)
            return encode_tokens(self.clip, self.prompt_ids[torch.arange(count, device=chosen.device), chosen])
        return F.normalize(
            encode_tokens(self.clip, self.prompt_ids.flatten(0, 1)).view(count, most, -1).mean(1), dim=-1
        )

    def forward(
        self, slices: torch.Tensor, token_ids: torch.Tensor, text_mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Encode a batch of cases.

        Args:
            slices: ``(N, K, 3, h, w)`` in [0, 1], K slices of each case at the CLIP's image size.
            token_ids: ``(N, T, L)``, up to T texts per case.
            text_mask: ``(N, T)`` bool, True for a text, False for padding; at least one text per case.

        Returns:
            ``image`` and ``text`` ``(N, E)``, the mean over a case's slices and texts; ``prompts`` ``(V, E)``; all of
            unit norm; and the scalar ``scale``.
        """
        with _fast(slices.device):
            return {name: value.float() for name, value in self._encode(slices, token_ids, text_mask).items()}

    def _encode(
        self, slices: torch.Tensor, token_ids: torch.Tensor, text_mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        images = (slices.flatten(0, 1) - self.mean) / self.std
        image = F.normalize(self.clip.visual(images), dim=-1).view(*slices.shape[:2], -1).mean(dim=1)
        texts = encode_tokens(self.clip, token_ids[text_mask])
        owner = text_mask.nonzero()[:, 0]
        text = torch.zeros_like(image).index_add(0, owner, texts.to(image.dtype))
        return {
            "image": F.normalize(image, dim=-1),
            "text": F.normalize(text, dim=-1),
            "prompts": self.encode_prompts(),
            "scale": self.clip.logit_scale.exp().clamp(max=_MAX_SCALE),
        }


class ContrastiveLoss(nn.Module):
    """CLIP's loss between slices and texts, plus the cross entropy of classifying both by the statements.

    Two patients may have the same report, so the pairing alone teaches little about single words. The statements
    supervise each attribute explicitly, above all left against right, in the form of the later prompts.

    Args:
        attribute_weight: weight of the classification loss.
        attribute_scale: inverse temperature of the classification.
    """

    def __init__(self, attribute_weight: float = 1.0, attribute_scale: float = 15.0):
        super().__init__()
        self.attribute_weight = attribute_weight
        self.attribute_scale = attribute_scale
        self.clip_loss = open_clip.ClipLoss()
        self.places: Sequence[slice] = list(attribute_slices().values())

    def forward(self, prediction: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Compute the loss.

        Args:
            prediction: output of ``ContrastiveClip``.
            targets: ``image`` and ``text`` ``(N, V)``, as from ``attribute_targets``; zeros where nothing is known.
        """
        loss = self.clip_loss(prediction["image"], prediction["text"], prediction["scale"])
        for kind in ("image", "text"):
            logits = self.attribute_scale * prediction[kind] @ prediction["prompts"].T
            terms = [self._choice(logits[:, place], targets[kind][:, place]) for place in self.places]
            loss = loss + self.attribute_weight * torch.stack(terms).mean()
        return loss

    @staticmethod
    def _choice(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cross entropy over the cases whose target is known; zero if there are none."""
        known = target.sum(dim=1)
        return -(target * logits.log_softmax(dim=1)).sum() / known.sum().clamp(min=1.0)
