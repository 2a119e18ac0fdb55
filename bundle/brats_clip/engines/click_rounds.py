"""Simulated clicks during training: a robot corrects the current segmentation over several rounds."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..clicks import RobotAnnotator, click_targets
from ..errors import InputError
from ..labels import regions_to_label

# A click on a region says less than a click that names the label.
_REGION_OF = {"NCR": "TC", "ED": "WT"}
_STRIDE = 2  # errors are searched at 2 mm: eight times fewer voxels, and a click is no more precise than that


class ClickRounds:
    """Simulates the clicks of a person for ``BrainInferer`` during training.

    One to ``rounds`` times: refine by the clicks so far, then click on one of the worst errors. ``FusionLoss`` adds the
    loss of the prediction after all clicks to the loss of the prediction without clicks.

    Args:
        rounds: maximum number of clicks per case.
        region_share: share of NCR and ED clicks that name only the region (TC, WT) instead of the label.
        seed: random seed of the robot.

    Raises:
        InputError: if ``rounds`` is below 1.
    """

    def __init__(self, rounds: int = 4, region_share: float = 0.3, seed: int = 0) -> None:
        if rounds < 1:
            raise InputError("rounds", str(rounds), "at least one click")
        self.rounds, self.region_share = rounds, region_share
        self.set_random_state(seed)

    def set_random_state(self, seed: int) -> None:
        """Reset the random generators."""
        self.random = np.random.default_rng(seed)
        self.robot = RobotAnnotator(jitter=1.5, smallest=4, seed=seed + 1)

    @torch.no_grad()
    def __call__(self, network: nn.Module, decoded, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Click on a batch.

        Args:
            network: network whose ``refine`` is called without gradients.
            decoded: output of its ``decode``.
            truth: regions ``(N, 3, D, H, W)``.

        Returns:
            Clicks ``(N, K, 3)`` and their targets ``(N, K, 3)``, as ``refine`` takes them.
        """
        truths = [_labels(sample) for sample in truth]
        clicks, targets = [], []
        for i in range(int(self.random.integers(1, self.rounds + 1))):
            if i:
                decoded = network.refine(decoded, torch.stack(clicks, dim=1), torch.stack(targets, dim=1))
            made = [
                self._click(_labels(logits > 0), true) for logits, true in zip(decoded.refined, truths, strict=True)
            ]
            clicks.append(torch.tensor([voxel for voxel, _ in made], dtype=torch.float32, device=truth.device))
            targets.append(click_targets([kind for _, kind in made]).to(truth.device))
        return torch.stack(clicks, dim=1), torch.stack(targets, dim=1)

    def _click(self, answer: np.ndarray, truth: np.ndarray) -> tuple[list[int], str]:
        # Without errors, click on a voxel with its true label: the network learns not to spoil a correct result.
        click = self.robot.click(answer, truth) or self.robot.confirm(truth)
        kind = click.kind
        if kind in _REGION_OF and self.random.random() < self.region_share:
            kind = _REGION_OF[kind]
        return [_STRIDE * v for v in click.voxel], kind


def _labels(regions: Tensor) -> np.ndarray:
    coarse = regions[:, ::_STRIDE, ::_STRIDE, ::_STRIDE]
    return regions_to_label(torch.as_tensor(coarse > 0)).as_subclass(Tensor)[0].cpu().numpy()
