"""Report-guided brain-tumour segmentation: the Python package of the bundle."""

__version__ = "0.2.0"


def __getattr__(name: str):
    # Found when it is asked for: most parts of the package need none of what it imports.
    if name == "Segmenter":
        from .interactive import Segmenter

        return Segmenter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
