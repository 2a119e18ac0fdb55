"""A miniature training run: the handlers of ``configs/train.json`` with a network of fewer than 100 weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import PrepareBatchExtraInput, SupervisedEvaluator, SupervisedTrainer
from monai.handlers import IgniteMetricHandler, LrScheduleHandler, ValidationHandler, from_engine
from monai.metrics import DiceMetric
from monai.transforms import AsDiscreted, Compose, RandGaussianNoised
from torch import nn

from brats_clip.engines import (
    BestModel,
    BrainInferer,
    CurveWriter,
    EarlyStop,
    EpochCheckpoint,
    EpochSeed,
    FusionLoss,
    GradientClip,
    LoadWeights,
    TakeLogits,
    WeightAverage,
    collate_cases,
)
from brats_clip.transforms import RandVaryReportd

CASES, BATCH = 6, 2
STEPS = CASES // BATCH  # per epoch


class Clip:
    """Encode a sentence as its length."""

    embed_dim = 1

    def fits(self, text: str) -> bool:
        return True

    def encode_texts(self, texts) -> torch.Tensor:
        return torch.tensor([[float(len(text))] for text in texts]).reshape(-1, 1)


class Network(nn.Module):
    """Two convolutions with dropout and running statistics between them, and a report that shifts the result."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.drop = nn.Conv3d(4, 8, 1), nn.BatchNorm3d(8), nn.Dropout3d(0.3)
        self.last = nn.Conv3d(8, 3, 1)

    def forward(self, image, report_mask):
        told = report_mask.float().mean(dim=1).reshape(-1, 1, 1, 1, 1)
        return self.last(self.drop(torch.relu(self.norm(self.first(image))))) + told


def cases() -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    data = []
    for i in range(CASES):
        image = torch.randn(4, 4, 4, 4, generator=generator)
        label = (image[:3] > torch.tensor([-0.3, 0.2, 0.8]).reshape(3, 1, 1, 1)).float()
        report = {"report": "One. Two. Three. Four. Five.", "report_mask": torch.ones(5, dtype=torch.bool)}
        data.append({"image": image, "label": label, "case": f"p{i}", **report})
    return data


@dataclass
class Training:
    trainer: SupervisedTrainer
    network: Network
    ema: WeightAverage
    optimizer: torch.optim.Optimizer
    checkpoints: EpochCheckpoint
    stop_early: EarlyStop

    def run(self, interrupt_at: int | None = None) -> Training:
        """Resume from the last checkpoint, if any, and train; stop after iteration ``interrupt_at``, if given."""
        if interrupt_at is not None:

            def cut(engine):
                raise KeyboardInterrupt

            self.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=interrupt_at), cut)
        self.checkpoints.resume(self.trainer)
        try:
            self.trainer.run()
        except KeyboardInterrupt:
            assert interrupt_at is not None
        return self

    def weights(self) -> dict:
        parts = {"network": self.network, "average": self.ema.ema_model}
        return {f"{p}.{k}": v.clone() for p, part in parts.items() for k, v in part.state_dict().items()}


def build(folder: Path, epochs: int = 4, workers: int = 0, patience: int = 99, pretrained=None, seed: int = 0):
    """Build a training run as a new process would, with new initial weights unless they are restored."""
    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=epochs, power=0.9)
    ema = WeightAverage(network, momentum=0.05, momentum_warmup=0.5, warmup_iters=20)
    best = BestModel(str(folder / "checkpoints"), ema.ema_model, "val_mean_dice")
    stop_early, curves = EarlyStop(patience, "val_mean_dice"), CurveWriter(str(folder / "curves.csv"))
    objects = {"network": network, "ema": ema.ema_model, "optimizer": optimizer, "lr_scheduler": schedule}
    objects |= {"best_model": best, "stop_early": stop_early, "curves": curves}
    checkpoints = EpochCheckpoint(str(folder / "checkpoints"), objects)

    def metric() -> IgniteMetricHandler:
        return IgniteMetricHandler(
            metric_fn=DiceMetric(ignore_empty=False),
            save_details=False,
            output_transform=from_engine(["pred", "label"]),
        )

    prepare = PrepareBatchExtraInput({"report_mask": "report_mask"})
    binary = AsDiscreted("pred", threshold=0.0)
    evaluator = SupervisedEvaluator(
        torch.device("cpu"),
        DataLoader(Dataset(cases()[:2]), batch_size=1, num_workers=min(workers, 1)),
        ema.ema_model,
        inferer=BrainInferer(cpu_bf16=False),
        prepare_batch=prepare,
        postprocessing=binary,
        key_val_metric={"val_mean_dice": metric()},
        val_handlers=[curves, best, stop_early],
    )
    random = Compose(
        [
            RandGaussianNoised("image", prob=0.7, std=0.3),
            RandVaryReportd(Clip(), none=0.3, partial=0.5, generic=0.0, wrong=0.0),
        ]
    )
    dataset = Dataset(cases(), random)
    trainer = SupervisedTrainer(
        torch.device("cpu"),
        epochs,
        DataLoader(
            dataset,
            batch_size=BATCH,
            shuffle=True,
            num_workers=workers,
            drop_last=True,
            collate_fn=collate_cases,
        ),
        network,
        optimizer,
        FusionLoss(),
        inferer=BrainInferer(cpu_bf16=False),
        prepare_batch=prepare,
        postprocessing=binary,
        key_train_metric={"train_dice": metric()},
        train_handlers=[
            EpochSeed(seed, dataset),
            *([LoadWeights(str(pretrained), network, only_fresh=True)] if pretrained else []),
            GradientClip(),
            TakeLogits(),
            ema,
            LrScheduleHandler(schedule, print_lr=False),
            ValidationHandler(1, evaluator),
            curves,
            checkpoints,
        ],
    )
    stop_early.set_trainer(trainer)
    return Training(trainer, network, ema, optimizer, checkpoints, stop_early)
