"""Synthetic patients: warped ICBM-152 anatomy, a tumour, four sequences and the findings, from one seed."""

from .dataset import PhantomDataset
from .patient import Phantom, draw_phantom
from .traits import TUMOUR_KINDS, Traits
from .writer import write_phantom

__all__ = ["TUMOUR_KINDS", "Phantom", "PhantomDataset", "Traits", "draw_phantom", "write_phantom"]
