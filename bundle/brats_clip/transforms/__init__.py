"""Dictionary transforms from a case's files to the network's input and back."""

from .clicks import ObeyClicksd, PlaceClicksd, click_tensors, obey_clicks
from .drop_sequences import RandDropSequencesd
from .encode_semantics import EncodeSemanticsd
from .extent import Extentd, MarkWholed, not_zero
from .load_case import LoadCased
from .regions import LabelToRegionsd, LogitsToLabeld, clean_label
from .split_attention import SplitAttentiond
from .vary_report import RandVaryReportd

__all__ = [
    "EncodeSemanticsd",
    "Extentd",
    "LabelToRegionsd",
    "LoadCased",
    "LogitsToLabeld",
    "MarkWholed",
    "ObeyClicksd",
    "PlaceClicksd",
    "RandDropSequencesd",
    "RandVaryReportd",
    "SplitAttentiond",
    "clean_label",
    "click_tensors",
    "not_zero",
    "obey_clicks",
]
