"""One way in for the app, the scripts and people in a notebook: set a case once, prompt it many times."""

from .segmentation import Segmentation
from .segmenter import Segmenter

__all__ = ["Segmentation", "Segmenter"]
