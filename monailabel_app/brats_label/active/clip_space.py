"""Cases in CLIP space: how far they are from those that are labelled, and which stand for many that are not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Descriptors = Sequence[Sequence[float]]
MOST = 1000  # cases that coverage is measured on


class Field:
    """Distances from each case to the nearest that is labelled or taken; 1 - cosine, so 0 to 2.

    Cases without a descriptor, or with one of another CLIP than the rest, are at distance 0.
    """

    def __init__(self, descriptors: Descriptors, labelled: Descriptors) -> None:
        self.points, self.known, others = _points(descriptors, labelled)
        self.taken = np.zeros(len(descriptors), bool)
        self.compared = len(others) > 0
        if self.compared:
            distance = 1.0 - (self.points @ others.T).max(axis=1)
            self.wanted = self.distance = np.where(self.known, distance, 0.0)
        else:  # a typical one first; from then on, those unlike it
            known = self.points[self.known]
            mean = known.mean(axis=0) if len(known) else np.zeros(self.points.shape[1], np.float32)
            self.wanted = np.where(self.known, self.points @ mean, -np.inf)
            self.distance = np.zeros(len(descriptors))

    def take(self, index: int) -> None:
        """Count a case as labelled."""
        if self.known[index]:
            near = np.where(self.known, 1.0 - self.points @ self.points[index], 0.0)
            self.distance = np.minimum(self.distance, near) if self.compared else near
            self.compared = True
        self.taken[index] = True
        self.wanted = np.where(self.taken, -np.inf, self.distance)


class Coverage:
    """How near the cases are to a labelled one, and what labelling another would add: facility location in CLIP space.

    Farthest first takes what is odd; this takes what stands for many that nothing labelled stands for. Measured on
    ``MOST`` cases. One without a descriptor, or with one of another CLIP, adds nothing.
    """

    def __init__(self, descriptors: Descriptors, labelled: Descriptors) -> None:
        points, known, others = _points(descriptors, labelled)
        # Descriptors come in a shuffled order, so that the first are a sample. 0 to 2: the higher, the more alike.
        self.alike = np.where(known[:, None] & known[None, :MOST], 1.0 + points @ points[:MOST].T, 0.0)
        self.nearest = (1.0 + points[:MOST] @ others.T).max(axis=1, initial=0.0)

    def gains(self) -> np.ndarray:
        """Of each case: the mean rise of ``nearest`` if it were labelled."""
        return np.maximum(self.alike - self.nearest, 0.0).mean(axis=1)

    def take(self, index: int) -> None:
        """Count a case as labelled."""
        self.nearest = np.maximum(self.nearest, self.alike[index])


def _points(descriptors: Descriptors, labelled: Descriptors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Descriptors ``(N, E)``, zeros in place of one that is missing or of another CLIP; which of them are known
    ``(N,)``; and those of labelled cases that compare with them."""
    size = max((len(d) for d in descriptors), default=0) or 1
    points = np.array([d if len(d) == size else [0.0] * size for d in descriptors], np.float32).reshape(-1, size)
    others = np.array([d for d in labelled if len(d) == size], np.float32).reshape(-1, size)
    return points, points.any(axis=1), others
