"""Three MONAI networks as used for BraTS, and a meter for the time and memory of an answer."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import DynUNet, SegResNet, SwinUNETR
from monai.transforms import Compose, CropForegroundd, EnsureTyped, Invertd, LoadImaged, NormalizeIntensityd

Answer = Callable[[], tuple[np.ndarray, np.ndarray]]  # returns a label map (X, Y, Z) and its affine
GIB = 2**30
SMALLEST = 64  # voxels per axis; DynUNet halves them five times, and instance normalisation needs more than one


def build_network(name: str) -> torch.nn.Module:
    """Build a MONAI network as used for BraTS, ``(N, 4, X, Y, Z)`` to ``(N, 3, X, Y, Z)``; it predicts background."""
    torch.manual_seed(0)
    if name == "segresnet":
        network = SegResNet(3, 16, 4, 3, dropout_prob=0.2, blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1))
    elif name == "swinunetr":
        network = SwinUNETR(in_channels=4, out_channels=3, feature_size=48)
    else:
        strides, filters = [1, 2, 2, 2, 2, 2], [32, 64, 128, 256, 320, 320]
        network = DynUNet(3, 4, 3, [3] * 6, strides, strides[1:], filters, norm_name=("INSTANCE", {"affine": True}))
    (head,) = (m for m in network.modules() if isinstance(m, torch.nn.Conv3d) and m.out_channels == 3)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.constant_(head.bias, -1.0)
    return network.eval()


def window_of(name: str, size: Sequence[int], trial: bool = False) -> tuple[int, ...]:
    """Return the sliding window of a network; in a trial, no larger than the small volume of ``size`` needs."""
    window = (240, 240, 160) if name == "segresnet" else (128, 128, 128)
    if not trial:
        return window
    return tuple(min(w, max(SMALLEST, -(-s // 32) * 32)) for w, s in zip(window, size, strict=True))


def monai_pipeline(name: str, case: dict, device: torch.device, window: Sequence[int]) -> Answer:
    """Build a network with its pre- and postprocessing; each call of the result reads and segments the case."""
    network = build_network(name).to(device)
    inferer = SlidingWindowInferer(window, 1, overlap=0.5, mode="gaussian" if name == "dynunet" else "constant")
    crop = [CropForegroundd("image", source_key="image", allow_smaller=True)] if name == "dynunet" else []
    normalise = NormalizeIntensityd("image", nonzero=True, channel_wise=True)
    preprocess = Compose([LoadImaged("image"), EnsureTyped("image", device=device), *crop, normalise])
    invert = Invertd("pred", preprocess, orig_keys="image", nearest_interp=False)
    torch.backends.cudnn.benchmark = True  # as in the model zoo's bundle

    def answer() -> tuple[np.ndarray, np.ndarray]:
        data = preprocess({"image": [case[s] for s in ("t1ce", "t1", "t2", "flair")]})
        with torch.no_grad(), torch.autocast(device.type, enabled=device.type == "cuda"):
            pred = inferer(data["image"][None], network)[0].float().sigmoid()
        data["pred"] = MetaTensor(pred, meta=data["image"].meta)
        tc, wt, et = invert(data)["pred"] > 0.5
        label = torch.where(et, 4, torch.where(tc, 1, torch.where(wt, 2, 0))).to(torch.uint8)
        return label.cpu().numpy(), data["image"].meta["original_affine"]

    return answer


def peak_bytes() -> int:
    """Return the peak memory of this process.

    ``ru_maxrss`` is not used on Linux, where a process inherits its parent's peak.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        (peak,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def reset_peak() -> None:
    """Reset the peak of ``peak_bytes``; if the system cannot do this, it still counts from the start."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


class Meter:
    """Measures time and memory of successive answers. Create it after the imports and before the network."""

    def __init__(self, device: torch.device, folder: Path):
        self.device, self.folder = device, folder
        self.rows: list[dict] = []
        reset_peak()
        self.imports = peak_bytes()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def take(self, name: str, answer: Answer) -> dict:
        """Run ``answer``, write its label map, and return (and keep) time and memory."""
        first = not self.rows
        if not first:  # the peak of a first answer includes building the network
            reset_peak()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        begun = self._now()
        label, affine = answer()
        answered = self._now()
        nib.save(nib.Nifti1Image(label, affine), self.folder / "mask.nii.gz")
        written = self._now()
        peak = peak_bytes()
        row = {"answer": name, "seconds": (written if first else answered) - begun, "writing": written - answered}
        row |= {"peak_gib": peak / GIB, "above_imports_gib": (peak - self.imports) / GIB}
        if self.device.type == "cuda":
            row["gpu_gib"] = torch.cuda.max_memory_allocated(self.device) / GIB
        self.rows.append(row)
        return row
