"""Synthetic patients: warped ICBM-152 anatomy, a tumour, four sequences and the findings, from one seed."""

from .dataset import PhantomDataset
from .patient import Phantom, draw_phantom
from .writer import write_phantom

__all__ = ["Phantom", "PhantomDataset", "draw_phantom", "write_phantom"]
