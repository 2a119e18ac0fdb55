"""A bundle with a network so small that a case takes a fraction of a second, and synthetic cases."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from brats_clip import Segmenter
from brats_clip.cases import SEQUENCES, Volume

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
NAME = "BraTS2021_00000"
ALIGNED_SHAPE, TILTED_SHAPE = (44, 52, 40), (48, 34, 40)
# BraTS orientation with voxels of 4 mm: x runs to the left, y to the back; voxel 0 is far from the world origin.
ALIGNED = np.array([[-4.0, 0, 0, 90], [0, -4.0, 0, 107], [0, 0, 4.0, -61], [0, 0, 0, 1]])
CENTRE_MM = ALIGNED[:3, :3] @ ((np.array(ALIGNED_SHAPE) - 1) / 2) + ALIGNED[:3, 3]


def tilted() -> np.ndarray:
    """Return the affine of 5 mm slices of a head turned by 15 degrees; axes run to the front, up and to the left."""
    turn = np.radians(15)
    axes = np.array([[0, 0, -1.0], [1, 0, 0], [0, 1, 0]]) @ np.diag([4.0, 5.0, 3.7])
    rotate = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotate @ axes
    affine[:3, 3] = CENTRE_MM - affine[:3, :3] @ ((np.array(TILTED_SHAPE) - 1) / 2)
    return affine


GRIDS = {"aligned": (ALIGNED, ALIGNED_SHAPE), "tilted": (tilted(), TILTED_SHAPE)}


def draw(grid: str = "aligned", seed: int = 0) -> dict[str, np.ndarray]:
    """Return the four sequences of a head, sampled on a grid: an ellipsoid of noise with a lesion in it."""
    affine, shape = GRIDS[grid]
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    mm = voxels @ affine[:3, :3].T + affine[:3, 3] - CENTRE_MM
    random = np.random.default_rng(seed)
    waves = sum(np.sin(mm @ random.normal(0, 0.06, 3) + random.uniform(0, 6)) for _ in range(6))
    brain = ((mm / [66, 80, 58]) ** 2).sum(axis=-1) < 1
    distance = np.linalg.norm(mm - random.uniform(-25, 25, 3), axis=-1)
    lesion, rim, core = distance < 28, (distance < 17) & (distance > 9), distance <= 9
    images = {}
    for i, sequence in enumerate(SEQUENCES):
        image = 300 + 40 * waves * (-1) ** i + random.normal(0, 8, shape)
        image += 200 * (lesion & (i > 1)) + 260 * (rim & (i == 1)) - 150 * (core & (i < 2))
        images[sequence] = (image.clip(20) * brain).astype(np.float32)
    return images


def arrays(grid: str = "aligned", seed: int = 0) -> dict[str, tuple]:
    """Return the sequences of ``draw`` with their affine, as ``set_case`` accepts them."""
    return {sequence: (image, GRIDS[grid][0]) for sequence, image in draw(grid, seed).items()}


def write(folder: Path, grid: str = "aligned", seed: int = 0, only: tuple = SEQUENCES, name: str = NAME) -> dict:
    """Write the sequences under BraTS names; return their paths by sequence."""
    (folder / name).mkdir(parents=True)
    paths = {s: str(folder / name / f"{name}_{s}.nii.gz") for s in only}
    for sequence, image in draw(grid, seed).items():
        if sequence in only:
            nib.save(nib.Nifti1Image(image, GRIDS[grid][0]), paths[sequence])
    return paths


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Path:
    """A bundle folder: the real inference.json with a tiny network, at 4 mm."""
    root = tmp_path_factory.mktemp("bundle")
    (root / "configs").mkdir()
    (root / "models").mkdir()
    (root / "models" / "clip").symlink_to(BUNDLE / "models" / "clip")
    config = json.loads((BUNDLE / "configs" / "inference.json").read_text())
    config["network_def"] |= {"widths": [4, 8, 8, 8], "head_width": 24, "bottleneck_blocks": 1}
    config |= {"spacing": [4.0, 4.0, 4.0], "slices_per_plane": 1, "progress_bar": False}
    (root / "configs" / "inference.json").write_text(json.dumps(config))
    torch.save(_weights(root), root / "models" / "model.pt")
    return root


@torch.no_grad()
def _weights(root: Path) -> dict:
    """Return weights that segment bright voxels as tumour and respond to reports and clicks arbitrarily."""
    parser = ConfigParser()
    parser.read_config(root / "configs" / "inference.json")
    parser["bundle_root"] = str(root)
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def").eval()
    for parameter in network.parameters():
        if not parameter.any():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    network.pixel_fusion.weights.weight.zero_()
    network.pixel_fusion.weights.bias.zero_()
    head = network.head
    head.features.weight.mul_(0.1)
    head.features.bias.zero_()
    head.semantic_attention.refine.weight.mul_(0.1)
    network.clicks.change.weight.mul_(0.1)
    network.findings.gate[-1].weight.mul_(0.05)
    network.findings.gate[-1].bias.mul_(0.05)
    head.detail.linear.weight.zero_()
    head.logits.weight.copy_(torch.eye(24)[..., None, None, None])
    for corner in range(8):  # of a 2 x 2 x 2 block; WT where T2 and FLAIR are bright, TC and ET where T1ce - T1 is
        head.detail.linear.weight[corner, [2 * 8 + corner, 3 * 8 + corner]] = 1.0
        head.detail.linear.weight[[8 + corner, 16 + corner], 4 * 8 + corner] = 1.0
    # Set the biases so that each region covers about its true share of the brain.
    preprocess, logits = parser.get_parsed_content("preprocessing"), []
    for seed in range(2):
        volumes = {s: Volume(image, ALIGNED, s) for s, image in draw(seed=seed).items()}
        image = preprocess({"case": "p", **volumes})["image"].as_tensor()[None]
        logits.append(network(image)[0, :, (image[0] != 0).any(dim=0)])
    for region, share in enumerate((0.07, 0.02, 0.012)):
        border = torch.cat(logits, dim=1)[region].quantile(1 - share)
        head.logits.bias[8 * region : 8 * region + 8] -= border
    return network.state_dict()


@pytest.fixture(scope="session")
def segmenter(bundle) -> Segmenter:
    """Shared by all tests that do not inspect its cache."""
    return Segmenter(bundle, device="cpu")
