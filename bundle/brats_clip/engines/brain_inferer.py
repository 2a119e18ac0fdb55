"""Run the network over a case: the whole brain in one pass, or windows where memory is short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.inferers import Inferer, SlidingWindowInferer
from torch import Tensor, nn

from ..errors import InputError
from ..precision import cpu_has_bf16


class BrainInferer(Inferer):
    """One pass over the whole crop to the brain: cheaper than overlapping windows, and no seams.

    Args:
        window: size of windows in voxels of the working grid, divisible by 16, for small GPUs; None for the whole brain
            at once. The slices are still taken from the whole volume, once.
        overlap: share of a window that its neighbour sees, too.
        attention: also return the semantic attention maps, as further channels on the grid of the input; in 0 to 1, so
            that what is filled in with 0 around the brain later is no attention.
        annotator: clicks while the network trains, see ``ReportGuidedUNet.annotator``.
        cpu_bf16: compute in bf16 on the CPU; None does so where the CPU has it. On a GPU the engine's ``amp`` decides.

    Raises:
        InputError: for attention together with windows, which are not stitched.
    """

    def __init__(
        self,
        window: Sequence[int] | None = None,
        overlap: float = 0.25,
        attention: bool = False,
        cpu_bf16: bool | None = None,
        annotator: Callable | None = None,
    ) -> None:
        super().__init__()
        if attention and window is not None:
            raise InputError("attention", "attention maps asked for with windows", "one of the two")
        self.attention, self.annotator = attention, annotator
        self.window = tuple(window) if window is not None else None
        self.overlap = overlap
        self.cpu_bf16 = cpu_has_bf16() if cpu_bf16 is None else cpu_bf16

    def __call__(self, inputs: Tensor, network: nn.Module, *args, **kwargs):
        """Run ``network`` on ``inputs`` ``(N, 4, D, H, W)``; keywords are the network's (tokens, mask, extent)."""
        plain = inputs.as_subclass(Tensor)
        kwargs = {k: v.as_subclass(Tensor) if isinstance(v, Tensor) else v for k, v in kwargs.items()}
        with self.precision(plain.device):
            result = self._run(plain, network, kwargs)
        if isinstance(inputs, MetaTensor) and isinstance(result, Tensor):
            # What was done to the image is what Invertd has to undo on the prediction.
            result = MetaTensor(result.as_subclass(Tensor)).copy_meta_from(inputs, copy_attr=True)
        return result

    def precision(self, device: torch.device) -> AbstractContextManager:
        """What to compute in on ``device``: bf16 on a CPU that has it; a GPU's engine has decided before."""
        on_cpu = torch.device(device).type == "cpu"
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.cpu_bf16) if on_cpu else nullcontext()

    def _run(self, inputs: Tensor, network: nn.Module, kwargs: dict):
        if network.training:
            getattr(network, "module", network).annotator = self.annotator
        if self.attention and not network.training:
            return self._with_attention(inputs, network, **kwargs)
        if self.window is None or network.training:
            return network(inputs, **kwargs)
        return self._by_windows(inputs, network, kwargs)

    def _with_attention(
        self,
        inputs: Tensor,
        network: nn.Module,
        report_tokens=None,
        report_mask=None,
        clicks=None,
        click_targets=None,
        **kwargs,
    ) -> Tensor:
        decoded = network.decode(network.encode(inputs, **kwargs), report_tokens, report_mask)
        if clicks is not None:
            decoded = network.refine(decoded, clicks, click_targets)
        maps = decoded.attention.float().sigmoid()
        if maps.shape[1]:
            maps = F.interpolate(maps, size=decoded.logits.shape[2:], mode="trilinear", align_corners=False)
        else:
            maps = decoded.logits[:, :0]
        return torch.cat([decoded.refined, maps], dim=1)

    def _by_windows(self, inputs: Tensor, network: nn.Module, kwargs: dict) -> Tensor:
        if inputs.shape[0] != 1:
            return torch.cat(
                [
                    self._by_windows(inputs[i : i + 1], network, {k: v[i : i + 1] for k, v in kwargs.items()})
                    for i in range(inputs.shape[0])
                ]
            )
        kwargs = dict(kwargs)
        kwargs.pop("extent", None)
        encoder = getattr(network, "slice_encoder", None)
        if "slice_tokens" not in kwargs and encoder is not None:
            kwargs["slice_tokens"], kwargs["slice_positions"] = encoder(inputs)
        shape = torch.tensor(inputs.shape[2:], device=inputs.device, dtype=torch.float32)

        def predict(windows: Tensor, coordinates: Sequence[Sequence[slice]]) -> Tensor:
            n = windows.shape[0]
            edges = [[(s.start, s.stop) for s in c[-3:]] for c in coordinates]
            extent = 2 * torch.tensor(edges, device=inputs.device, dtype=torch.float32) / shape[:, None] - 1
            shared = {k: v.expand(n, *v.shape[1:]) for k, v in kwargs.items()}
            if "clicks" in shared:
                corners = torch.tensor([[low for low, _ in window] for window in edges], device=inputs.device)
                shared["clicks"] = shared["clicks"] - corners[:, None, :]
            return network(windows, extent=extent, **shared).float()

        sliding = SlidingWindowInferer(
            # Never beyond the brain: coordinates in a padded volume would tell the network the wrong place.
            [min(side, whole) for side, whole in zip(self.window, inputs.shape[2:], strict=True)],
            sw_batch_size=1,
            overlap=self.overlap,
            mode="gaussian",
            with_coord=True,
            padding_mode="constant",
        )
        return sliding(inputs, predict)
