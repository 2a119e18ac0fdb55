"""Interactive API for the app, scripts and notebooks: set a case once, prompt it many times."""

from .segmentation import Segmentation
from .segmenter import Segmenter

__all__ = ["Segmentation", "Segmenter"]
