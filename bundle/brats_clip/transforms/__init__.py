"""Dictionary transforms from a case's files to the network's input and back."""

from .augment import RandBrainMaskd, RandFieldOfViewd, RandMirrord, RandPerSequenced, RandThickSlices
from .clicks import ObeyClicksd, PlaceClicksd, click_tensors, obey_clicks
from .drop_sequences import RandDropSequencesd
from .encode_semantics import EncodeSemanticsd, finding_rows, report_inputs
from .extent import Extentd, StoreWholeGridd, not_zero
from .find_findings import FindFindingsd
from .load_case import LoadCased
from .regions import LabelToRegionsd, LogitsToLabeld, case_grids, clean_label
from .split_attention import SplitAttentiond
from .vary_report import RandVaryReportd

__all__ = [
    "EncodeSemanticsd",
    "Extentd",
    "FindFindingsd",
    "LabelToRegionsd",
    "LoadCased",
    "LogitsToLabeld",
    "ObeyClicksd",
    "PlaceClicksd",
    "RandBrainMaskd",
    "RandDropSequencesd",
    "RandFieldOfViewd",
    "RandMirrord",
    "RandPerSequenced",
    "RandThickSlices",
    "RandVaryReportd",
    "SplitAttentiond",
    "StoreWholeGridd",
    "case_grids",
    "clean_label",
    "click_tensors",
    "finding_rows",
    "not_zero",
    "obey_clicks",
    "report_inputs",
]
