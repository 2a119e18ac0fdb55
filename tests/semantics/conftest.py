"""Small CLIP models and brain volumes shared by the tests of the semantics."""

from __future__ import annotations

import json
from copy import deepcopy

import pytest
import torch

from brats_clip.semantics import load_clip
from brats_clip.semantics.embedded import CONFIG_FILE, EMBEDDED_CONFIG, ORIGIN_KEY


@pytest.fixture(scope="session")
def tiny_config() -> dict:
    """The embedded architecture, smaller: 32 px, one layer."""
    config = deepcopy(EMBEDDED_CONFIG)
    config["model_cfg"] = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 32, "head_width": 16, "layers": 1},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    return config


@pytest.fixture(scope="session")
def tiny_clip(tiny_config, tmp_path_factory):
    """A loaded, untrained CLIP."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / CONFIG_FILE).write_text(json.dumps({**tiny_config, ORIGIN_KEY: {"seed": 3}}))
    return load_clip(folder)


@pytest.fixture
def brain():
    """Make a z-scored volume ``(1, 4, *shape)``: noise in an ellipsoid, optionally a ball bright on T2 and FLAIR."""

    def make(shape=(64, 80, 64), ball=None, radius=7, seed=0):
        generator = torch.Generator().manual_seed(seed)
        axes = [torch.linspace(-1, 1, side) for side in shape]
        inside = sum(a.square() for a in torch.meshgrid(*axes, indexing="ij")) < 0.9
        image = 0.3 * torch.randn((1, 4, *shape), generator=generator)
        if ball is not None:
            grids = torch.meshgrid(*[torch.arange(side) for side in shape], indexing="ij")
            distance = sum((g - c).square() for g, c in zip(grids, ball, strict=True))
            image[:, 2:, distance < radius**2] += 2.5
        return image * inside

    return make
