"""Training of the finding guidance: it learns to trust true sizes and leaves the rest of the network unchanged."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from brats_clip.engines import train_findings


class Reports:
    """Write reports that state the true size of the core."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def set_random_state(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def vary(self, case: dict) -> str:
        return f"The core measures {20 * (case['ml'] / 4.19) ** (1 / 3):.0f} mm."

    def __call__(self, case: dict) -> dict:
        return {**case, "report_tokens": torch.zeros(1, case["width"]), "report_mask": torch.zeros(1, dtype=torch.bool)}


class Cases(list):
    """Balls whose size cannot be seen in the image."""

    @property
    def data(self) -> list:
        return self


@pytest.fixture
def cases(build):
    width, found = build().semantic_dim, Cases()
    distance = (torch.stack(torch.meshgrid(*[torch.linspace(-31, 31, 64)] * 3, indexing="ij")) ** 2).sum(0).sqrt()
    for ml in (2.0, 10.0, 40.0):
        truth = (distance < 10 * (ml / 4.19) ** (1 / 3)).float().expand(3, -1, -1, -1)
        image = torch.exp(-distance / 20).expand(4, -1, -1, -1)
        tokens = {"slice_tokens": torch.zeros(2, width), "slice_positions": torch.zeros(2, 2), "width": width, "ml": ml}
        extent = torch.tensor([-1.0, 1.0]).expand(3, 2)
        found.append({"image": image, "label": truth, "extent": extent, **tokens})
    return found


def test_training_learns_true_sizes_and_changes_only_the_findings_part(build, cases, tmp_path):
    network = build()
    network.findings.furthest = 100.0  # without training, the volumes that it predicts are arbitrary
    before = {name: value.clone() for name, value in network.state_dict().items()}
    options = {"decodings": 1, "reports": 4, "steps": 150, "num_workers": 0, "learning_rate": 0.01}
    loss = train_findings(network, cases, Reports(), tmp_path, **options)
    assert loss["stated"] < loss["unstated"]
    after = torch.load(tmp_path / "checkpoints" / "model.pt", weights_only=True)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith("findings.") for name in changed)
    assert train_findings(network, cases, Reports(), tmp_path, **options) == {}  # the weights exist already


def test_same_seed_trains_the_same_weights(build, cases, tmp_path):
    network, weights = build(), []
    start = network.state_dict()
    start = {name: value.clone() for name, value in start.items()}
    for folder in ("a", "b"):
        network.load_state_dict(start)
        train_findings(network, cases, Reports(), tmp_path / folder, reports=4, steps=5, num_workers=0)
        weights.append(torch.load(tmp_path / folder / "checkpoints" / "model.pt", weights_only=True))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
