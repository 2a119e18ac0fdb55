"""Load a frozen CLIP from a folder, a checkpoint, an open_clip tag or the Hugging Face hub."""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from torch import nn

from .. import bundle_root
from ..errors import WeightsError
from .embedded import CONFIG_FILE, ORIGIN_KEY, WEIGHTS_FILE, build_embedded
from .quiet import quiet_open_clip
from .visual import SliceVision

logger = logging.getLogger(__name__)

EMBEDDED_CLIP = bundle_root() / "models" / "clip"
_HUB = "hf-hub:"
_TEXT_BATCH = 256


class ClipEncoder(nn.Module):
    """A frozen CLIP that encodes slices and texts into a common embedding space.

    Args:
        model: an open_clip model; frozen in place.
        tokenizer: its open_clip tokenizer.
        origin: where the weights came from, for ``describe``.
        mean: per channel, of the CLIP's training images.
        std: per channel, of the CLIP's training images.
    """

    def __init__(self, model: nn.Module, tokenizer: Callable, origin: str, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        size = model.visual.image_size
        self.image_size = int(size[0] if isinstance(size, Sequence) else size)
        self.model = model.requires_grad_(False)
        self.tokenizer = tokenizer
        self.origin = origin
        self.vision = SliceVision(model.visual, self.image_size, list(mean), list(std))
        self.context_length = int(model.context_length)
        self._fingerprint: str | None = None
        self.embed_dim = 0
        self.eval()
        self.embed_dim = self.encode_texts(["brain"]).shape[1]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights: names, shapes and values. CLIPs with equal fingerprints give equal embeddings."""
        if self._fingerprint is None:
            digest = hashlib.sha256()
            for name, value in sorted(self.model.state_dict().items()):
                value = value.detach().cpu().float().contiguous()
                digest.update(f"{name}{tuple(value.shape)}".encode())
                digest.update(value.numpy().data)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def train(self, mode: bool = True) -> ClipEncoder:
        """Stay in evaluation mode, because the encoder is frozen."""
        return super().train(False)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Encode texts into ``(T, E)`` of unit norm. Text beyond the context is truncated, see ``encode_report``."""
        device = self.vision.mean.device
        if not texts:
            return torch.zeros(0, self.embed_dim, device=device)
        batches = [list(texts[i : i + _TEXT_BATCH]) for i in range(0, len(texts), _TEXT_BATCH)]
        encoded = [self.model.encode_text(self.tokenizer(batch).to(device)).float() for batch in batches]
        return F.normalize(torch.cat(encoded), dim=-1)

    def fits(self, text: str) -> bool:
        """Whether all tokens of ``text``, with the start and end tokens, fit into the CLIP's context."""
        if isinstance(self.tokenizer, open_clip.SimpleTokenizer):
            return len(self.tokenizer.encode(text)) + 2 <= self.context_length
        return len(self.tokenizer.tokenizer(text)["input_ids"]) <= self.context_length

    def describe(self) -> str:
        """One line for logs and model cards: size, origin and the start of the fingerprint."""
        millions = sum(p.numel() for p in self.model.parameters()) / 1e6
        return (
            f"CLIP with {millions:.1f} M parameters, {self.image_size} px, {self.embed_dim} dimensions; "
            f"{self.origin}; fingerprint {self.fingerprint[:12]}"
        )


def load_clip(source: str | PathLike = EMBEDDED_CLIP) -> ClipEncoder:
    """Load a CLIP for inference.

    Args:
        source: one of

            - a folder in open_clip's local-dir format (``open_clip_config.json`` and the weights),
            - ``"NAME:PRETRAINED"`` with an architecture and a weights tag of open_clip (``"ViT-B-32:openai"``) or a
              checkpoint file (``"ViT-B-32:/data/clip.pt"``),
            - ``"hf-hub:ORGANISATION/MODEL"``.

            The last two download the weights, unless open_clip has them in its cache.

    Raises:
        WeightsError: if the source does not exist, or the weights do not fit; the message says what to do.
    """
    source = os.fspath(source)
    if source.startswith(_HUB):
        return _create(source, None, source)
    name, colon, weights = source.partition(":")
    if Path(source).is_dir() or _looks_like_a_path(name):
        return _load_folder(Path(source))
    if name not in open_clip.list_models():
        near = ", ".join(difflib.get_close_matches(name, open_clip.list_models(), 3)) or "see open_clip.list_models()"
        raise WeightsError(source, f"no folder and no open_clip architecture {name!r}", f"one of them ({near})")
    tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none known"
    if not colon:
        raise WeightsError(source, "an architecture without weights", f"{name}:TAG or {name}:FILE (tags: {tags})")
    if not Path(weights).is_file() and open_clip.get_pretrained_cfg(name, weights) == {}:
        raise WeightsError(source, f"neither a file nor a weights tag in {weights!r}", f"a file, or a tag of: {tags}")
    return _create(name, weights, source)


def _looks_like_a_path(name: str) -> bool:
    return os.sep in name or name.startswith((".", "~"))


def _load_folder(folder: Path) -> ClipEncoder:
    """Load a local-dir folder, or build the untrained CLIP that its config asks for with ``brats_clip.seed``."""
    if not folder.is_dir():
        raise WeightsError(folder, "no such folder", f"a folder with {CONFIG_FILE} and {WEIGHTS_FILE}")
    try:
        config = json.loads((folder / CONFIG_FILE).read_text())
        known = config.get(ORIGIN_KEY, {})
        preprocess = config.get("preprocess_cfg", {})
    except (OSError, ValueError, AttributeError) as error:
        raise WeightsError(folder / CONFIG_FILE, str(error), "a config of open_clip's local-dir format") from error
    if any(path.suffix in (".safetensors", ".bin", ".pth") for path in folder.iterdir()):
        return _create(f"local-dir:{folder}", None, f"{known.get('origin', 'weights')} ({folder.name}/)")
    if "seed" not in known:
        expected = f"{WEIGHTS_FILE} or open_clip_pytorch_model.bin beside {CONFIG_FILE}: restore it or train it again"
        raise WeightsError(folder, "a config without weights", expected)
    seed = known["seed"]
    logger.warning("The CLIP in %s is untrained (seed %s): its embeddings are meaningless.", folder, seed)
    model = build_embedded(seed, config)
    with quiet_open_clip():
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    origin = f"UNTRAINED, random weights from seed {seed} ({folder.name}/)"
    return ClipEncoder(model, tokenizer, origin, preprocess["mean"], preprocess["std"])


def _create(name: str, pretrained: str | None, origin: str) -> ClipEncoder:
    """Build a model with pretrained weights through open_clip; fail if there are none."""
    # Weights trained with QuickGELU (OpenAI's) silently lose accuracy in a model built without it.
    quick_gelu = bool(pretrained and open_clip.get_pretrained_cfg(name, pretrained).get("quick_gelu"))
    try:
        with quiet_open_clip():
            with torch.random.fork_rng(devices=[]):
                model = open_clip.create_model(
                    name, pretrained=pretrained, force_quick_gelu=quick_gelu, require_pretrained=True
                )
            tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:  # open_clip, its downloader, torch and safetensors raise different errors
        expected = (
            "weights that fit the architecture; a download needs the internet, else give a folder with "
            f"{CONFIG_FILE} and {WEIGHTS_FILE}, or NAME:/path/to/checkpoint"
        )
        raise WeightsError(origin, f"no usable weights ({type(error).__name__}: {error})", expected) from error
    config = open_clip.get_model_preprocess_cfg(model)
    return ClipEncoder(model, tokenizer, origin, config["mean"], config["std"])
