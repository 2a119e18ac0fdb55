"""Find, check, list and read the cases of a data set."""

from ..images import Volume, read_volume, split_channel
from .background import clear_background
from .check import CaseCheck, CaseContent, check_case, check_cases, read_case
from .datalist import UNLABELED, load_cases, load_datalist, make_datalist, undo_resolver, write_datalist
from .find import LeftOut, Survey, find_cases, survey
from .naming import MSD_CHANNELS, NAMINGS, REFERENCE, SEQUENCES, Naming, parse_name, patient_of
from .prepare import MODES as PREPROCESS_MODES
from .prepare import Preparation, is_ready, prepare
from .report import case_report, looks_like_path, read_report, read_reports
from .split import SECTIONS, fold_of, split_patients

__all__ = [
    "MSD_CHANNELS",
    "NAMINGS",
    "PREPROCESS_MODES",
    "REFERENCE",
    "SECTIONS",
    "SEQUENCES",
    "UNLABELED",
    "CaseCheck",
    "CaseContent",
    "LeftOut",
    "Naming",
    "Preparation",
    "Survey",
    "Volume",
    "case_report",
    "check_case",
    "check_cases",
    "clear_background",
    "find_cases",
    "fold_of",
    "is_ready",
    "load_cases",
    "load_datalist",
    "looks_like_path",
    "make_datalist",
    "parse_name",
    "patient_of",
    "prepare",
    "read_case",
    "read_report",
    "read_reports",
    "read_volume",
    "split_channel",
    "split_patients",
    "survey",
    "undo_resolver",
    "write_datalist",
]
