"""How good an answer probably is, and where to look first: without a truth, from one pass over the image."""

from .assess import Assessment, RegionEstimate, assess, error_map
from .features import Circumstances
from .model import QualityModel, load_quality
from .places import Geometry

__all__ = [
    "Assessment",
    "Circumstances",
    "Geometry",
    "QualityModel",
    "RegionEstimate",
    "assess",
    "error_map",
    "load_quality",
]
