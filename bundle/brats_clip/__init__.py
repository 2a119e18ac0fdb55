"""Report-guided brain-tumour segmentation: the Python package of the bundle."""

from pathlib import Path

__version__ = "0.2.0"


def bundle_root() -> Path:
    """Return the folder that holds configs/, models/ and docs/: the parent of this package, or pip's copy."""
    around = Path(__file__).resolve().parents[1]
    return around if (around / "configs").is_dir() else around / "brats_clip_files" / "bundle"


def __getattr__(name: str):
    # Imported on first access: most parts of the package do not need the dependencies of Segmenter.
    if name == "Segmenter":
        from .interactive import Segmenter

        return Segmenter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
