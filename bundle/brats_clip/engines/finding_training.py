"""Train the guidance by findings on cached decodings; the rest of the network is frozen."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from ignite.handlers import DiskSaver
from monai.data import PersistentDataset
from torch import Tensor
from torch.utils.data import DataLoader

from ..networks import ReportGuidedUNet
from ..precision import cpu_has_bf16
from ..transforms import RandVaryReportd, finding_rows
from .checkpoints import load_weights
from .fusion_loss import FusionLoss

logger = logging.getLogger(__name__)
_OUT_OF_REACH = -6.5  # no shift of +-6 makes such a voxel positive


def train_findings(
    network: ReportGuidedUNet,
    dataset: PersistentDataset,
    vary: RandVaryReportd,
    output_dir: str | Path,
    pretrained: str | Path | None = None,
    decodings: int = 1,
    reports: int = 40,
    steps: int = 5000,
    batch_size: int = 4,
    learning_rate: float = 0.002,
    seed: int = 0,
    num_workers: int = 1,
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Train ``network.findings``, and save all weights to ``output_dir/checkpoints/model.pt``.

    Each case is decoded a few times, each time with new augmentation and a new report, and only voxels that a shift of
    the logits can affect are kept, at 2 mm. A step then takes milliseconds, and one decoding serves many reports. If
    the weights file already exists, nothing is trained.

    Args:
        network: network with guidance by findings.
        dataset: whole volumes, augmented: ``image``, regions as ``label``, ``slice_tokens``, ``slice_positions``,
            ``extent``; ``report`` and ``findings`` as ``vary`` reads them. The network must not have been trained on
            these cases: on cases that it knows, its volumes are right, and it would learn to ignore stated ones.
        vary: transform that draws reports.
        output_dir: folder of checkpoints/model.pt and curves.csv.
        pretrained: weights to start from; None keeps those of ``network``.
        decodings: number of decodings per case.
        reports: number of reports drawn per decoding.
        steps: number of steps, each with ``batch_size`` reports on one decoding.
        learning_rate: initial learning rate of AdamW, with cosine decay to 0.
        seed: random seed of all draws.
        num_workers: number of worker processes that load cases.
        device: device for decoding and training.

    Returns:
        Mean loss of the last tenth of the steps: ``stated`` with findings, ``unstated`` without; {} if not trained.

    Raises:
        WeightsError: if ``pretrained`` cannot be loaded.
    """
    output = Path(output_dir)
    weights = output / "checkpoints" / "model.pt"
    if weights.is_file():
        logger.info("%s already exists: nothing to train", weights)
        return {}
    if pretrained is not None:
        network.load_state_dict(load_weights(pretrained))
    network.to(device).eval().requires_grad_(False)
    vary.set_random_state(seed)
    kept = _decode(network, dataset, vary, decodings, reports, num_workers, device)
    guidance = network.findings.train().requires_grad_(True)
    loss_function = FusionLoss()
    optimizer = torch.optim.AdamW(guidance.parameters(), learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draws = torch.Generator().manual_seed(seed)
    curve = []
    for step in range(steps):
        item = kept[int(torch.randint(len(kept), (1,), generator=draws))]
        rows = item["findings"][torch.randint(reports, (batch_size,), generator=draws)].to(device)
        logits, target, volumes = (item[name].to(device).float() for name in ("logits", "label", "volumes"))
        target = target.expand(batch_size, -1, -1, -1, -1)
        optimizer.zero_grad()
        loss = loss_function(logits + guidance.shift(volumes, rows), target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(guidance.parameters(), 12.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            curve.append((step + 1, float(loss), float(loss_function(logits[:1], target[:1]))))
        if (step + 1) % 250 == 0:
            means = pd.DataFrame(curve[-250:]).mean()
            logger.info("step %d of %d: loss %.4f, without findings %.4f", step + 1, steps, means[1], means[2])
    output.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(curve, columns=["step", "loss", "loss_unstated"])
    table.to_csv(output / "curves.csv", index=False, float_format="%.6f")
    DiskSaver(weights.parent, create_dir=True, require_empty=False, atomic=True)(network.state_dict(), weights.name)
    last = table.tail(max(1, steps // 10)).mean()
    return {"stated": float(last["loss"]), "unstated": float(last["loss_unstated"])}


@torch.no_grad()
def _decode(
    network: ReportGuidedUNet,
    dataset: PersistentDataset,
    vary: RandVaryReportd,
    decodings: int,
    reports: int,
    num_workers: int,
    device: torch.device | str,
) -> list[dict]:
    """Return, per decoding, the voxels at 2 mm that a shift can affect, and the findings of many reports."""
    kept = []
    for _ in range(decodings):
        for case in DataLoader(dataset, batch_size=None, num_workers=num_workers):
            told = vary(case)
            names = ("image", "slice_tokens", "slice_positions", "extent", "report_tokens", "report_mask")
            image, tokens, positions, extent, sentences, mask = (
                torch.as_tensor(told[name]).as_subclass(Tensor)[None].to(device) for name in names
            )
            with torch.autocast(image.device.type, torch.bfloat16, enabled=image.is_cuda or cpu_has_bf16()):
                decoded = network.decode(network.encode(image, tokens, positions, extent), sentences, mask)
            logits = F.avg_pool3d(decoded.logits.float(), 2)
            target = F.avg_pool3d(torch.as_tensor(told["label"]).as_subclass(Tensor)[None].float().to(device), 2)
            reached = ((logits > _OUT_OF_REACH) | (target > 0)).any(dim=1)[0]
            volumes = network.findings.volumes(logits).cpu()
            logits, target = (x[:, :, reached][..., None, None].half().cpu() for x in (logits, target))
            findings = torch.stack([finding_rows(vary.vary(case)) for _ in range(reports)])
            kept.append({"logits": logits, "label": target, "volumes": volumes, "findings": findings})
        logger.info("%d decodings", len(kept))
    return kept
