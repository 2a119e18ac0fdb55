"""CLIP encoders, slice selection and report encoding."""

from .clip import EMBEDDED_CLIP, ClipEncoder, load_clip
from .report_encoder import encode_report, region_embeddings
from .slice_encoder import SliceEncoder
from .slices import SliceSelector

__all__ = [
    "EMBEDDED_CLIP",
    "ClipEncoder",
    "SliceEncoder",
    "SliceSelector",
    "encode_report",
    "load_clip",
    "region_embeddings",
]
