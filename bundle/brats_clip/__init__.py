"""Report-guided brain-tumour segmentation: the Python package of the bundle."""

from pathlib import Path

__version__ = "0.2.0"


def bundle_root() -> Path:
    """The folder with configs/, models/ and docs/: around this package, or beside it where pip installed it."""
    around = Path(__file__).resolve().parents[1]
    return around if (around / "configs").is_dir() else around / "brats_clip_files" / "bundle"


def __getattr__(name: str):
    # Found when it is asked for: most parts of the package need none of what it imports.
    if name == "Segmenter":
        from .interactive import Segmenter

        return Segmenter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
