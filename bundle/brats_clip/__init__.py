"""Report-guided brain-tumour segmentation: the Python package of the bundle."""

__version__ = "0.1.0"
