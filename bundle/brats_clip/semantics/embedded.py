"""The CLIP that ships with the bundle: a small open_clip model, stored as a local-dir folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from copy import deepcopy
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from open_clip import CLIP
from safetensors.torch import save_file

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
# An extra key in open_clip's config file, which open_clip ignores: the origin of the weights.
ORIGIN_KEY = "brats_clip"

EMBEDDED_CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 128,
        # At 96 px, a pixel is about 2 mm; a patch of 12 px spans about a gyrus and its neighbours.
        "vision_cfg": {"image_size": 96, "patch_size": 12, "width": 128, "head_width": 32, "layers": 4},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 4},
    },
    # Mean and standard deviation of a slice from SliceSelector, background included.
    "preprocess_cfg": {"mean": [0.15, 0.15, 0.15], "std": [0.2, 0.2, 0.2], "interpolation": "bilinear"},
}


def build_embedded(seed: int = 0, config: Mapping[str, Any] = EMBEDDED_CONFIG) -> CLIP:
    """Build the embedded CLIP with random weights from ``seed``; the caller's random state is unchanged.

    Args:
        seed: of the initial weights.
        config: an open_clip config with ``model_cfg``.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIP(**deepcopy(dict(config["model_cfg"])))


def zero_unseen_embeddings(model: CLIP, seen_ids: Iterable[int]) -> int:
    """Zero, in place, the embedding of every token that no training text contained.

    These rows still hold their random initial values. Once they are zero, an unknown word in a real report contributes
    only its position, and the embedding table compresses well.

    Returns:
        The number of rows set to zero.
    """
    table = model.token_embedding.weight
    unseen = torch.ones(len(table), dtype=torch.bool)
    unseen[torch.as_tensor(sorted(set(seen_ids)), dtype=torch.long)] = False
    with torch.no_grad():
        table[unseen.to(table.device)] = 0.0
    return int(unseen.sum())


def save_clip(
    model: CLIP, folder: str | PathLike, origin: str, config: Mapping[str, Any] = EMBEDDED_CONFIG
) -> dict[str, Path]:
    """Save a CLIP in open_clip's local-dir format: config, and weights in half precision.

    Each file is written atomically, so a reader never sees a partial file.

    Args:
        model: of the architecture in ``config``.
        folder: created if missing.
        origin: what the weights were trained on, for ``ClipEncoder.describe``.
        config: an open_clip config with ``model_cfg`` and ``preprocess_cfg``.

    Returns:
        The two paths, keyed ``weights`` and ``config``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"weights": folder / WEIGHTS_FILE, "config": folder / CONFIG_FILE}
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    state = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    partial = {key: path.with_name(f".{path.name}.partial") for key, path in paths.items()}
    save_file(state, partial["weights"])
    partial["config"].write_text(json.dumps({**config, ORIGIN_KEY: {"origin": origin}}, indent=2) + "\n")
    # safetensors creates files that only the owner can read; the weights get the permissions of the config.
    shutil.copymode(partial["config"], partial["weights"])
    for key, path in paths.items():
        partial[key].replace(path)
    return paths
