"""Predict the quality of a segmentation, and where to check it first, without ground truth, from one forward pass."""

from .assess import Assessment, RegionEstimate, assess, error_map
from .features import Circumstances
from .model import NOT_FITTED, QualityModel, load_quality
from .places import Geometry

__all__ = [
    "NOT_FITTED",
    "Assessment",
    "Circumstances",
    "Geometry",
    "QualityModel",
    "RegionEstimate",
    "assess",
    "error_map",
    "load_quality",
]
