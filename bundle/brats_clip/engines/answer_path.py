"""The steps from an image and its prompts to logits, shared by ``BrainInferer`` and ``Segmenter``."""

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
    """The encoding of a batch of images, reusable for any number of prompts.

    Attributes:
        features: output of ``ReportGuidedUNet.encode``.
        correction: added to logits to average with the mirror image, ``(N, 3, D, H, W)``; None without averaging.
        unprompted: output decoded without a prompt, if the correction needed it.
    """

    features: list[Tensor]
    correction: Tensor | None = None
    unprompted: Decoded | None = None


def encode(network: nn.Module, image: Tensor, tta: bool = False, **kwargs) -> Encoded:
    """Encode ``image`` ``(N, 4, D, H, W)``; keyword arguments are those of ``ReportGuidedUNet.encode``.

    With ``tta``, the mirror image is also segmented once, with its own slices and without report or clicks; later
    prompts need no second pass.
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
    """Decode with the tensors of a report, or without a prompt; ``network.refine`` applies clicks afterwards."""
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
    """Facts about an image, kept to compare reports with it and to predict the quality of segmentations.

    Attributes:
        geometry: of the working grid and of the case.
        brain: ``(D, H, W)`` bool, on the working grid.
        missing: the missing sequences.
    """

    geometry: Geometry
    brain: Tensor
    missing: tuple[str, ...]

    @classmethod
    def of(cls, image: Tensor, geometry: Geometry, missing: Sequence[str] | None = None) -> ImageFacts:
        """Create from an image ``(4, D, H, W)``; ``missing`` defaults to the sequences that are 0 everywhere."""
        if missing is None:
            missing = [s for s, channel in zip(SEQUENCES, image, strict=True) if not channel.any()]
        return cls(geometry, (image != 0).any(dim=0), tuple(missing))

    def evidence(self, logits: Tensor) -> ImageEvidence:
        """Return the evidence in logits ``(3, D, H, W)`` that were decoded without the report."""
        probabilities = torch.sigmoid(nest(logits.float(), dim=0))
        return ImageEvidence(probabilities.cpu().numpy(), self.geometry.affine, self.brain.cpu().numpy())

    def compare(self, report: str, evidence: ImageEvidence) -> Consistency:
        """Compare a report with the image; without T1ce, enhancement and necrosis are not compared."""
        unseen = ("enhancement", "necrosis") if "t1ce" in self.missing else ()
        return compare_with_image(report, evidence, unseen)

    def assessor(
        self, logits: Tensor, model: QualityModel, agreed: Consistency | None, clicks: np.ndarray | None = None
    ) -> Callable[[], Assessment]:
        """Return a function that predicts the quality of ``logits`` ``(3, D, H, W)``, without keeping the image."""
        known = Circumstances(self.missing, None if agreed is None else agreed.score)
        brain, geometry = self.brain[::2, ::2, ::2].clone(), self.geometry
        return lambda: assess(logits, brain, geometry, model, known, clicks)
