"""The result of ``Segmenter.segment``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from ..cases import Preparation
from ..errors import InputError
from ..evaluation.case_metrics import region_volumes_ml
from ..geometry import Grid
from ..labels import REGIONS
from ..quality import Assessment
from ..reports import Consistency


class _Once:
    """Computes a value on first use, and then releases what the computation needed."""

    def __init__(self, compute: Callable[[], Any]) -> None:
        self._compute: Callable[[], Any] | None = compute
        self._value: Any = None
        self._lock = threading.Lock()

    def __call__(self) -> Any:
        with self._lock:
            if self._compute is not None:
                self._value, self._compute = self._compute(), None
            return self._value


class Segmentation:
    """A segmentation in the geometry of its case, that of the T1ce (or of the first available sequence).

    Expensive optional results are computed on first access; until then, a segmentation holds the network's output on
    the working grid, and nothing else of its case.

    Attributes:
        case: the case's name.
        label: ``(X, Y, Z)`` uint8: 0 background, 1 NCR, 2 ED, 4 ET.
        affine: ``(4, 4)``, voxel to RAS mm.
        voxel_mm: voxel sizes, mm.
        sequences_used, sequences_missing: names, in the order T1, T1ce, T2, FLAIR.
        report_used: whether the report was used: False without one, and for one that puts the tumour where the
            image does not show it.
        consistency: how well the report agrees with what the image shows; None without a report.
        notes: sentences on what was done to the images before segmentation.
        preparation: how the images were brought to one grid, that of ``label``; None if they were used as given.
        descriptor: descriptor of the images in CLIP space to compare cases, E numbers of unit norm; empty without the
            bridge to CLIP.
        seconds: time per step: "read" (files to the network's input), "slices" (CLIP on slices), "encode", "report"
            (CLIP on text), "decode", "screen" (comparison of the report with the image, which takes one decoding
            without the report), "clicks" and "finish"; 0 for cached steps.
    """

    def __init__(
        self,
        case: str,
        label: np.ndarray,
        affine: np.ndarray,
        sequences_used: tuple[str, ...],
        sequences_missing: tuple[str, ...],
        report_used: bool,
        consistency: Consistency | None,
        seconds: dict[str, float],
        probabilities: Callable[[], np.ndarray],
        attention: Callable[[], np.ndarray],
        assessment: Callable[[], Assessment],
        errors: Callable[[], np.ndarray],
        notes: tuple[str, ...] = (),
        preparation: Preparation | None = None,
        descriptor: tuple[float, ...] = (),
    ) -> None:
        self.case, self.label, self.affine, self.seconds = case, label, affine, seconds
        self.sequences_used, self.sequences_missing = sequences_used, sequences_missing
        self.voxel_mm = tuple(Grid(label.shape, affine).spacing.tolist())
        self.report_used, self.consistency = report_used, consistency
        self.notes, self.preparation, self.descriptor = notes, preparation, descriptor
        self._probabilities, self._attention = _Once(probabilities), _Once(attention)
        self._assessment, self._errors = _Once(assessment), _Once(errors)

    def __repr__(self) -> str:
        volumes = ", ".join(f"{region} {volume:.1f} ml" for region, volume in self.volumes_ml.items())
        score = None if self.consistency is None else self.consistency.score
        agrees = "" if score is None else f", consistency {score:.2f}"
        return f"Segmentation({self.case}: {volumes}{agrees})"

    def on(self, sequence: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the label map on the native grid of ``sequence``, and its affine.

        Raises:
            InputError: if the case has no such sequence.
        """
        if sequence not in self.sequences_used:
            raise InputError("sequence", repr(sequence), f"one of {', '.join(self.sequences_used)}")
        if self.preparation is None or sequence not in self.preparation.resampled_sequences:
            return self.label, self.affine
        return self.preparation.to_native(self.label, sequence), self.preparation.native[sequence].affine

    @cached_property
    def masks(self) -> dict[str, np.ndarray]:
        """WT, TC, ET as bool ``(X, Y, Z)``, each inside the one before."""
        return {region: np.isin(self.label, values) for region, values in REGIONS.items()}

    @cached_property
    def volumes_ml(self) -> dict[str, float]:
        """Volume of each region in ml."""
        return region_volumes_ml(self.label, self.voxel_mm)

    @cached_property
    def probabilities(self) -> dict[str, np.ndarray]:
        """Probability of each region, float32 ``(X, Y, Z)``; includes small components that ``label`` leaves out."""
        return dict(zip(REGIONS, self._probabilities(), strict=True))

    @property
    def quality(self) -> Assessment:
        """Predicted quality of the segmentation, with intervals; computed on first access."""
        return self._assessment()

    @property
    def expected_dice(self) -> dict[str, float]:
        """Expected Dice of WT, TC and ET, predicted without ground truth."""
        return self.quality.expected_dice

    @property
    def look_here(self) -> list[dict[str, Any]]:
        """Up to three places where a correction is likely to help most, best first; see ``quality.places``."""
        return self.quality.look_here

    @cached_property
    def error_probability(self) -> np.ndarray:
        """Calibrated probability that ``label`` is wrong, float32 ``(X, Y, Z)``; 0 far from the tumour."""
        return self._errors()[0]

    @cached_property
    def attention(self) -> dict[str, np.ndarray]:
        """Semantic attention map of each region in 0 to 1, float32 ``(X, Y, Z)``; empty without semantic attention."""
        maps = self._attention()
        return dict(zip(REGIONS, maps, strict=True)) if len(maps) else {}
