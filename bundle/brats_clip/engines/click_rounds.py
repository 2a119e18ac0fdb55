"""Clicks while the network trains: a robot corrects the answer of the moment, round after round."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..clicks import RobotAnnotator, click_targets
from ..errors import InputError
from ..labels import regions_to_label

# A person who clicks on a region says less than one who names the label.
_REGION_OF = {"NCR": "TC", "ED": "WT"}
_STRIDE = 2  # errors are looked for at 2 mm: eight times fewer voxels, and a click is no more exact than that


class ClickRounds:
    """Simulates a person for ``BrainInferer`` while the network trains.

    From one to ``rounds`` times: refine by the clicks so far, click where the result is most wrong. What the last of
    these answers teach, ``FusionLoss`` adds to the loss of the answer without any click.

    Args:
        rounds: clicks per case, at most.
        region_share: share of clicks that name a region (TC, WT) where they could have named the label (NCR, ED).
        seed: of what the robot draws.

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
            network: its ``refine`` is called without gradients.
            decoded: from its ``decode``.
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
        # Where nothing is wrong, a click confirms: it must not spoil what is right.
        click = self.robot.click(answer, truth) or self.robot.confirm(truth)
        kind = click.kind
        if kind in _REGION_OF and self.random.random() < self.region_share:
            kind = _REGION_OF[kind]
        return [_STRIDE * v for v in click.voxel], kind


def _labels(regions: Tensor) -> np.ndarray:
    coarse = regions[:, ::_STRIDE, ::_STRIDE, ::_STRIDE]
    return regions_to_label(torch.as_tensor(coarse > 0)).as_subclass(Tensor)[0].cpu().numpy()
