"""Synthetic patients: warped ICBM-152 anatomy, a tumour, four sequences and the findings, from one seed."""

from .dataset import PhantomDataset
from .patient import Phantom, draw_phantom
from .raw import RawPhantom, Series, draw_raw_phantom, write_raw_phantom
from .traits import TUMOUR_KINDS, Traits
from .writer import write_phantom

__all__ = [
    "TUMOUR_KINDS",
    "Phantom",
    "PhantomDataset",
    "RawPhantom",
    "Series",
    "Traits",
    "draw_phantom",
    "draw_raw_phantom",
    "write_phantom",
    "write_raw_phantom",
]
