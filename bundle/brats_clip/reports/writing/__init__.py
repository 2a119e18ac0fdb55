"""Write reports from findings."""

from .phrases import GENERIC
from .write import caption, fill_choices, write_report

__all__ = ["GENERIC", "caption", "fill_choices", "write_report"]
