"""A bundle with a network so small that a case takes a fraction of a second, and cases made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from brats_clip import Segmenter
from brats_clip.cases import SEQUENCES

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"
SHAPE = (44, 52, 40)
# As BraTS has it, with voxels of 4 mm: x and y run to the left and to the back, and the origin is far off.
ALIGNED = np.array([[-4.0, 0, 0, 90], [0, -4.0, 0, 107], [0, 0, 4.0, -61], [0, 0, 0, 1]])
CENTRE_MM = ALIGNED[:3, :3] @ ((np.array(SHAPE) - 1) / 2) + ALIGNED[:3, 3]


def draw(affine: np.ndarray, shape: tuple, seed: int = 0) -> dict[str, np.ndarray]:
    """Four sequences of a head in world space: an ellipsoid of noise with a lesion in it, sampled where ``affine`` says."""
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    mm = voxels @ affine[:3, :3].T + affine[:3, 3] - CENTRE_MM
    random = np.random.default_rng(seed)
    waves = sum(np.sin(mm @ (random.normal(0, 0.06, 3)) + random.uniform(0, 6)) for _ in range(6))
    brain = ((mm / [66, 80, 58]) ** 2).sum(axis=-1) < 1
    middle = random.uniform(-25, 25, 3)
    distance = np.linalg.norm(mm - middle, axis=-1)
    lesion, rim, core = distance < 28, (distance < 17) & (distance > 9), distance <= 9
    images = {}
    for i, sequence in enumerate(SEQUENCES):
        image = 300 + 40 * waves * (-1) ** i + random.normal(0, 8, shape)
        image += 200 * (lesion & (i > 1)) + 260 * (rim & (i == 1)) - 150 * (core & (i < 2))
        images[sequence] = (image.clip(20) * brain).astype(np.float32)
    return images


def write(folder: Path, images: dict[str, np.ndarray], affine: np.ndarray, name: str = "BraTS2021_00000") -> dict:
    """Write the sequences as BraTS names them; returns their paths by sequence."""
    (folder / name).mkdir(parents=True)
    paths = {s: folder / name / f"{name}_{s}.nii.gz" for s in images}
    for sequence, path in paths.items():
        nib.save(nib.Nifti1Image(images[sequence], affine), path)
    return {sequence: str(path) for sequence, path in paths.items()}


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Path:
    """A bundle folder: the real inference.json with a tiny network at 4 mm, random weights that see tumour in places."""
    root = tmp_path_factory.mktemp("bundle")
    (root / "configs").mkdir()
    (root / "models").mkdir()
    (root / "models" / "clip").symlink_to(BUNDLE / "models" / "clip")
    config = json.loads((BUNDLE / "configs" / "inference.json").read_text())
    config["network_def"] |= {"widths": [4, 8, 8, 8], "head_width": 8, "bottleneck_blocks": 1}
    config |= {"spacing": [4.0, 4.0, 4.0], "slices_per_plane": 1, "progress_bar": False}
    (root / "configs" / "inference.json").write_text(json.dumps(config))
    torch.save(_weights(root), root / "models" / "model.pt")
    return root


def _weights(root: Path) -> dict:
    parser = ConfigParser()
    parser.read_config(root / "configs" / "inference.json")
    parser["bundle_root"] = str(root)
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def").eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.copy_(torch.randn_like(parameter) * 0.5)
        # Where the regions' borders lie: so that a third, a sixth and a tenth of the brain are in them.
        case = {"case": "p", **draw_volumes()}
        image = parser.get_parsed_content("preprocessing")(case)["image"].as_tensor()[None]
        logits = network(image)[0]
        inside = (image[0] != 0).any(dim=0)
        for region, share in enumerate((0.3, 0.15, 0.1)):
            border = logits[region][inside].quantile(1 - share)
            network.head.logits.bias[8 * region : 8 * region + 8] -= border
    return network.state_dict()


def draw_volumes() -> dict:
    from brats_clip.cases import Volume

    return {s: Volume(image, ALIGNED, s) for s, image in draw(ALIGNED, SHAPE).items()}


@pytest.fixture(scope="session")
def segmenter(bundle) -> Segmenter:
    """One for all tests that do not count what it keeps."""
    return Segmenter(bundle, device="cpu")
