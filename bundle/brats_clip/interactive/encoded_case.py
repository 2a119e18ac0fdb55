"""A case that was read and encoded, with the outputs decoded from it so far."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from monai.data import MetaTensor

from ..cases import Preparation
from ..engines import Encoded, ImageFacts
from ..geometry import Grid, Placement
from ..networks import Decoded
from ..reports import Consistency, ImageEvidence

KEPT_REPORTS = 2  # in addition to the output without a report, with which reports are compared


@dataclass
class EncodedCase:
    """Everything a prompt needs, without the image itself.

    Attributes:
        name: name of the case, for messages.
        encoded: input of the network's decoder.
        stub: a MetaTensor ``(4, 1, 1, 1)`` with the geometry of the working image and the transforms applied to it.
        facts: geometry, brain mask and missing sequences.
        placement: where the working grid lies in the native grid; None if they differ by resampling.
        notes: what was done to the images.
        preparation: how the images were brought to one grid; None if they were used as given.
        seconds: time of reading and encoding.
        descriptor: descriptor of the case in CLIP space, see ``Segmentation``.
        answered: whether the case was segmented before.
        evidence: what the image shows without a report; None until it is needed.
        compared: consistency of the latest reports with the evidence, by text.
    """

    name: str
    encoded: Encoded
    stub: MetaTensor
    facts: ImageFacts
    placement: Placement | None
    sequences_used: tuple[str, ...]
    notes: tuple[str, ...]
    preparation: Preparation | None
    seconds: dict[str, float]
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    decoded: OrderedDict[str, Decoded] = field(default_factory=OrderedDict, repr=False)
    descriptor: tuple[float, ...] = ()
    answered: bool = False
    evidence: ImageEvidence | None = None
    compared: OrderedDict[str, Consistency] = field(default_factory=OrderedDict, repr=False)

    @property
    def working_affine(self) -> np.ndarray:
        """``(4, 4)``, voxels of the working grid to RAS mm."""
        return self.facts.geometry.affine

    @property
    def native(self) -> Grid:
        """The native grid of the case."""
        return Grid(self.facts.geometry.native_shape, self.facts.geometry.native_affine)

    @property
    def nbytes(self) -> int:
        """Memory of the features and decoded outputs, in bytes."""
        features, correction, unprompted = self.encoded
        held = [*features, self.facts.brain, *([] if correction is None else [correction])]
        answers = {id(decoded): decoded for decoded in (*self.decoded.values(), unprompted) if decoded is not None}
        for decoded in answers.values():
            held += [decoded.logits, decoded.attention, *decoded.features]
        return sum(tensor.nbytes for tensor in held)

    def compare(self, report: str, compute: Callable[[], Consistency]) -> Consistency:
        """Return how well ``report`` agrees with the image, cached because reading a long report takes time."""
        with self.lock:
            found = self.compared.get(report)
        # Not under the lock: ``compute`` may call ``decode``, which takes it; two threads with the same text agree.
        found = found or compute()
        with self.lock:
            self.compared[report] = found
            self.compared.move_to_end(report)
            while len(self.compared) > KEPT_REPORTS:
                self.compared.popitem(last=False)
        return found

    def decode(self, report: str, compute: Callable[[], Decoded]) -> Decoded:
        """Return the output decoded with ``report``, from the cache or by ``compute``; one thread at a time."""
        with self.lock:
            if report not in self.decoded:
                self.decoded[report] = compute()
            self.decoded.move_to_end(report)
            others = [text for text in self.decoded if text]
            for text in others[:-KEPT_REPORTS]:
                del self.decoded[text]
            return self.decoded[report]
