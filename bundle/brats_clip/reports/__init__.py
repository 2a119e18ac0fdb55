"""Radiology reports: describe, write, read and perturb them, and compare them with an image."""

from .consistency import Consistency, FindingCheck, compare_with_image
from .describe import describe_mask
from .evidence import ImageEvidence
from .features import FEATURES, FINDING_SLOTS, finding_features, stated
from .findings import Findings, mirror_findings
from .negate import negate_enhancement
from .perturb import (
    PERTURBATIONS,
    another_patients,
    drop_sentences,
    generic_report,
    scale_size,
    swap_region,
)
from .places import swap_side
from .reading import read_findings
from .sentences import split_sentences
from .writing import caption, write_report

__all__ = [
    "FEATURES",
    "FINDING_SLOTS",
    "PERTURBATIONS",
    "Consistency",
    "FindingCheck",
    "Findings",
    "ImageEvidence",
    "another_patients",
    "caption",
    "compare_with_image",
    "describe_mask",
    "drop_sentences",
    "finding_features",
    "generic_report",
    "mirror_findings",
    "negate_enhancement",
    "read_findings",
    "scale_size",
    "split_sentences",
    "stated",
    "swap_region",
    "swap_side",
    "write_report",
]
