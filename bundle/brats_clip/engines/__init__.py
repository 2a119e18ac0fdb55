"""Components for MONAI's engines: inferer, loss, checkpoints, training curves, and result writers."""

from .answer_path import Encoded, ImageFacts, decode, encode
from .batch import CaseLoader, cases_to_do, check_output_dir, run_batch
from .brain_inferer import BrainInferer
from .checkpoints import BestModel, EpochCheckpoint, LoadWeights, load_weights
from .click_rounds import ClickRounds
from .command_line import check_options, one_line_errors, plain_message, read_switches, tidy_console
from .curves import CurveWriter, read_curves
from .data import collate_cases, hash_case, hash_transforms, mixed_sampler
from .evaluation_handler import EvaluationWriter
from .finding_training import train_findings
from .fusion_loss import FusionLoss
from .handlers import EarlyStop, EpochSeed, GradientClip, TakeLogits, WeightAverage, region_output, shared_handler
from .inference_handler import CaseWriter

__all__ = [
    "BestModel",
    "BrainInferer",
    "CaseLoader",
    "CaseWriter",
    "ClickRounds",
    "CurveWriter",
    "EarlyStop",
    "Encoded",
    "EpochCheckpoint",
    "EpochSeed",
    "EvaluationWriter",
    "FusionLoss",
    "GradientClip",
    "ImageFacts",
    "LoadWeights",
    "TakeLogits",
    "WeightAverage",
    "cases_to_do",
    "check_options",
    "check_output_dir",
    "collate_cases",
    "decode",
    "encode",
    "hash_case",
    "hash_transforms",
    "load_weights",
    "mixed_sampler",
    "one_line_errors",
    "plain_message",
    "read_curves",
    "read_switches",
    "region_output",
    "run_batch",
    "shared_handler",
    "tidy_console",
    "train_findings",
]
