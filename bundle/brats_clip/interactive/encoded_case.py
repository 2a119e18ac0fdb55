"""A case that was read and encoded, and what was decoded from it so far."""

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

KEPT_REPORTS = 2  # besides the answer without one, which the report is compared with


@dataclass
class EncodedCase:
    """Everything a prompt needs, without the image itself.

    Attributes:
        name: for people.
        encoded: for the network's decoder.
        stub: a MetaTensor ``(4, 1, 1, 1)`` with the geometry of the working image and what was done to it.
        facts: its geometry, its brain and the sequences that are missing.
        placement: where the working grid lies in the native one; None if resampling lies between them.
        notes: what was done to the images.
        preparation: how they were brought to one grid; None if they came so.
        seconds: of reading and encoding.
        descriptor: of the case in CLIP space, see ``Segmentation``.
        answered: whether it was segmented before.
        evidence: what the image shows without a report, once it was asked for.
        compared: how well the last reports agree with that, by text.
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
        """``(4, 4)``, from the voxels of the working grid to RAS mm."""
        return self.facts.geometry.affine

    @property
    def native(self) -> Grid:
        """The grid of the case."""
        return Grid(self.facts.geometry.native_shape, self.facts.geometry.native_affine)

    @property
    def nbytes(self) -> int:
        """Memory of the features and of what was decoded, in bytes."""
        features, correction, unprompted = self.encoded
        held = [*features, self.facts.brain, *([] if correction is None else [correction])]
        answers = {id(decoded): decoded for decoded in (*self.decoded.values(), unprompted) if decoded is not None}
        for decoded in answers.values():
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
