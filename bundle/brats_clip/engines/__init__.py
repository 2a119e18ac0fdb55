"""What MONAI's engines need from us: inferer, loss, checkpoints, curves, and writers of results."""

from .batch import CaseLoader, cases_to_do, check_output_dir, run_batch
from .brain_inferer import BrainInferer, corrected, image_evidence, mirror_correction, unseen_without
from .case_cache import hash_case, hash_transforms
from .checkpoints import BestModel, EpochCheckpoint, LoadWeights, load_weights
from .click_rounds import ClickRounds
from .collate import collate_cases
from .console import tidy_console
from .curves import CurveWriter, read_curves
from .early_stop import EarlyStop
from .epoch_seed import EpochSeed
from .evaluation_handler import EvaluationWriter
from .fusion_loss import FusionLoss
from .gradient_clip import GradientClip
from .inference_handler import CaseWriter
from .mixed_sampler import mixed_sampler
from .options import check_options
from .plain_errors import one_line_errors, plain_message
from .region_metric import region_output
from .shared_handler import shared_handler
from .switches import read_switches
from .take_logits import TakeLogits
from .weight_average import WeightAverage

__all__ = [
    "BestModel",
    "BrainInferer",
    "CaseLoader",
    "CaseWriter",
    "ClickRounds",
    "CurveWriter",
    "EarlyStop",
    "EpochCheckpoint",
    "EpochSeed",
    "EvaluationWriter",
    "FusionLoss",
    "GradientClip",
    "LoadWeights",
    "TakeLogits",
    "WeightAverage",
    "cases_to_do",
    "check_options",
    "check_output_dir",
    "collate_cases",
    "corrected",
    "hash_case",
    "hash_transforms",
    "image_evidence",
    "load_weights",
    "mirror_correction",
    "mixed_sampler",
    "one_line_errors",
    "plain_message",
    "read_curves",
    "read_switches",
    "region_output",
    "run_batch",
    "shared_handler",
    "tidy_console",
    "unseen_without",
]
