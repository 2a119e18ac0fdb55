"""Dictionary transforms from a case's files to the network's input and back."""

from .drop_report import RandDropReportd
from .encode_semantics import EncodeSemanticsd
from .extent import Extentd, MarkWholed
from .load_case import LoadCased
from .regions import LabelToRegionsd, LogitsToLabeld
from .split_attention import SplitAttentiond

__all__ = [
    "EncodeSemanticsd",
    "Extentd",
    "LabelToRegionsd",
    "LoadCased",
    "LogitsToLabeld",
    "MarkWholed",
    "RandDropReportd",
    "SplitAttentiond",
]
