"""From an image and its prompts to logits, step by step: the one path that ``BrainInferer`` and ``Segmenter`` take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..cases import SEQUENCES
from ..labels import nest
from ..networks import Decoded
from ..quality import Assessment, Circumstances, Geometry, QualityModel, assess
from ..reports import Consistency, ImageEvidence, compare_with_image


class Encoded(NamedTuple):
    """What was encoded from a batch of images, for any number of prompts.

    Attributes:
        features: of ``ReportGuidedUNet.encode``.
        correction: what averaging with the mirror image adds to logits ``(N, 3, D, H, W)``; None without.
        unprompted: decoded without a prompt, where that was needed for the correction.
    """

    features: list[Tensor]
    correction: Tensor | None = None
    unprompted: Decoded | None = None


def encode(network: nn.Module, image: Tensor, tta: bool = False, **kwargs) -> Encoded:
    """Encode ``image`` ``(N, 4, D, H, W)``; keywords are those of ``ReportGuidedUNet.encode``.

    With ``tta``, the mirror image is segmented as well, with its own slices and without report or clicks; later prompts
    then need no second pass.
    """
    features = network.encode(image, **kwargs)
    if not tta:
        return Encoded(features)
    unprompted, extent = network.decode(features), kwargs.get("extent")
    if extent is not None:
        extent = extent.clone()
        extent[:, 0] = -extent[:, 0].flip(1)
    mirrored = network.decode(network.encode(image.flip(2), extent=extent)).logits.flip(2)
    correction = (mirrored - unprompted.logits) / 2
    return Encoded(features, correction, _corrected(unprompted, correction))


def decode(network: nn.Module, encoded: Encoded, report: Mapping[str, Tensor] | None = None) -> Decoded:
    """Decode with a report's tensors, or without a prompt; clicks come afterwards, by ``network.refine``."""
    if not report and encoded.unprompted is not None:
        return encoded.unprompted
    return _corrected(network.decode(encoded.features, **(report or {})), encoded.correction)


def _corrected(decoded: Decoded, correction: Tensor | None) -> Decoded:
    if correction is None:
        return decoded
    logits = decoded.logits + correction
    return decoded._replace(logits=logits, refined=logits, unstated=logits)


@dataclass(frozen=True, eq=False)
class ImageFacts:
    """What is kept of an image, to compare reports with it and to predict the quality of answers.

    Attributes:
        geometry: of the working grid and of the case.
        brain: ``(D, H, W)`` bool, on the working grid.
        missing: the sequences that are not there.
    """

    geometry: Geometry
    brain: Tensor
    missing: tuple[str, ...]

    @classmethod
    def of(cls, image: Tensor, geometry: Geometry, missing: Sequence[str] | None = None) -> ImageFacts:
        """Of an image ``(4, D, H, W)``; unless ``missing`` names them, sequences that are 0 everywhere are missing."""
        if missing is None:
            missing = [s for s, channel in zip(SEQUENCES, image, strict=True) if not channel.any()]
        return cls(geometry, (image != 0).any(dim=0), tuple(missing))

    def evidence(self, logits: Tensor) -> ImageEvidence:
        """What logits ``(3, D, H, W)`` show that have not seen the report."""
        probabilities = torch.sigmoid(nest(logits.float(), dim=0))
        return ImageEvidence(probabilities.cpu().numpy(), self.geometry.affine, self.brain.cpu().numpy())

    def compare(self, report: str, evidence: ImageEvidence) -> Consistency:
        """How well a report agrees with the image; without T1ce, enhancement and necrosis cannot be seen."""
        unseen = ("enhancement", "necrosis") if "t1ce" in self.missing else ()
        return compare_with_image(report, evidence, unseen)

    def assessor(
        self, logits: Tensor, model: QualityModel, agreed: Consistency | None, clicks: np.ndarray | None = None
    ) -> Callable[[], Assessment]:
        """Predicts the quality of the answer ``logits`` ``(3, D, H, W)`` when called, without keeping the image."""
        known = Circumstances(self.missing, None if agreed is None else agreed.score)
        brain, geometry = self.brain[::2, ::2, ::2].clone(), self.geometry
        return lambda: assess(logits, brain, geometry, model, known, clicks)
