"""A case that was read and encoded, and what was decoded from it so far."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from monai.data import MetaTensor

from ..cases import Preparation
from ..geometry import Placement
from ..networks import Decoded
from ..reports import Consistency, ImageEvidence

KEPT_REPORTS = 2  # besides the answer without one, which the report is compared with


@dataclass
class EncodedCase:
    """Everything a prompt needs, without the image itself.

    Attributes:
        name: for people.
        features: of ``ReportGuidedUNet.encode``.
        stub: a MetaTensor ``(4, 1, 1, 1)`` with the geometry of the working image and what was done to it.
        brain: ``(D, H, W)`` bool, on the working grid.
        native_shape, native_affine: of the case.
        placement: where the working grid lies in the native one; None if resampling lies between them.
        unseen: findings that the sequences cannot show.
        notes: what was done to the images.
        preparation: how they were brought to one grid; None if they came so.
        correction: see ``engines.mirror_correction``; None without test-time augmentation.
        seconds: of reading and encoding.
        descriptor: of the case in CLIP space, see ``Segmentation``.
        answered: whether it was segmented before.
        evidence: what the image shows without a report, once it was asked for.
        compared: how well the last reports agree with that, by text.
    """

    name: str
    features: list[torch.Tensor]
    stub: MetaTensor
    brain: torch.Tensor
    native_shape: tuple[int, int, int]
    native_affine: np.ndarray
    placement: Placement | None
    sequences_used: tuple[str, ...]
    sequences_missing: tuple[str, ...]
    unseen: tuple[str, ...]
    notes: tuple[str, ...]
    preparation: Preparation | None
    seconds: dict[str, float]
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    decoded: OrderedDict[str, Decoded] = field(default_factory=OrderedDict, repr=False)
    correction: torch.Tensor | None = None
    descriptor: tuple[float, ...] = ()
    answered: bool = False
    evidence: ImageEvidence | None = None
    compared: OrderedDict[str, Consistency] = field(default_factory=OrderedDict, repr=False)

    @property
    def working_affine(self) -> np.ndarray:
        """``(4, 4)``, from the voxels of the working grid to RAS mm."""
        return torch.as_tensor(self.stub.affine).double().numpy()

    @property
    def nbytes(self) -> int:
        """Memory of the features and of what was decoded, in bytes."""
        held = [*self.features, self.brain, *([] if self.correction is None else [self.correction])]
        for decoded in list(self.decoded.values()):
            held += [decoded.logits, decoded.attention, *decoded.features]
        return sum(tensor.nbytes for tensor in held)

    def compare(self, report: str, compute: Callable[[], Consistency]) -> Consistency:
        """How well ``report`` agrees with the image, from memory or by ``compute``: reading a long one takes time."""
        with self.lock:
            found = self.compared.get(report)
        # Not under the lock: ``compute`` may have to decode, and two threads that read the same text agree.
        found = found or compute()
        with self.lock:
            self.compared[report] = found
            self.compared.move_to_end(report)
            while len(self.compared) > KEPT_REPORTS:
                self.compared.popitem(last=False)
        return found

    def decode(self, report: str, compute: Callable[[], Decoded]) -> Decoded:
        """What was decoded with ``report``, from memory or by ``compute``; one thread at a time."""
        with self.lock:
            if report not in self.decoded:
                self.decoded[report] = compute()
            self.decoded.move_to_end(report)
            others = [text for text in self.decoded if text]
            for text in others[:-KEPT_REPORTS]:
                del self.decoded[text]
            return self.decoded[report]
