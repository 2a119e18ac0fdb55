"""Run the network over a case: the whole brain in one pass, or in windows if memory is short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.inferers import Inferer, SlidingWindowInferer
from monai.utils import MetaKeys
from torch import Tensor, nn

from ..errors import InputError
from ..networks import Decoded
from ..precision import cpu_has_bf16
from ..quality import Assessment, Geometry, QualityModel
from ..reports import FINDING_SLOTS, Consistency
from .answer_path import ImageFacts, decode, encode


class BrainInferer(Inferer):
    """Runs the network in one pass over the whole brain crop: cheaper than overlapping windows, and without seams.

    Args:
        window: size of windows in voxels of the working grid, divisible by 16, for small GPUs; None for the whole brain
            at once. The slices are still taken once from the whole volume.
        overlap: share of a window that overlaps its neighbour.
        attention: also return the semantic attention maps, as further channels on the grid of the input; in 0 to 1, so
            that the 0 that later fills the surroundings of the brain means no attention.
        annotator: simulates clicks during training: maps ``(network, decoded, truth)`` to clicks and targets as
            ``ReportGuidedUNet.refine`` takes them. Needs the regions ``(N, 3, D, H, W)`` as ``truth``.
        tta: average over the image and its mirror image (test-time augmentation), at about twice the time.
        screen_reports: segment without the report first, and ignore findings that the image contradicts, and a whole
            report that puts the tumour elsewhere. Needs the texts of the reports as keyword argument ``report``.
        cpu_bf16: compute in bf16 on the CPU; None: if the CPU supports it. On a GPU the engine's ``amp`` decides.
        quality: model that predicts the quality of each segmentation; None for no prediction.

    Attributes:
        consistencies: of the last batch, per case; None for a case without a report, or if reports are not screened.
        assessments: of the last batch, per case; empty without ``quality``, or for inputs without geometry.

    Raises:
        InputError: for attention or ``tta`` together with windows, which do not support them.
    """

    def __init__(
        self,
        window: Sequence[int] | None = None,
        overlap: float = 0.25,
        attention: bool = False,
        cpu_bf16: bool | None = None,
        annotator: Callable | None = None,
        screen_reports: bool = False,
        tta: bool = False,
        quality: QualityModel | None = None,
    ) -> None:
        super().__init__()
        if attention and window is not None:
            raise InputError("attention", "attention maps asked for with windows", "one of the two")
        if tta and window is not None:
            raise InputError("tta", "mirroring asked for with windows", "one of the two")
        self.attention, self.annotator, self.screen_reports, self.tta = attention, annotator, screen_reports, tta
        self.consistencies: list[Consistency | None] = []
        self.quality, self.assessments = quality, list[Assessment]()
        self.window = tuple(window) if window is not None else None
        self.overlap = overlap
        self.cpu_bf16 = cpu_has_bf16() if cpu_bf16 is None else cpu_bf16

    def __call__(self, inputs: Tensor, network: nn.Module, *args, **kwargs):
        """Run ``network`` on ``inputs`` ``(N, 4, D, H, W)``; keywords are those of the network (tokens, mask, extent),
        ``report``, a text per case, and ``truth`` for the annotator."""
        plain = inputs.as_subclass(Tensor)
        texts, truth = kwargs.pop("report", None), kwargs.pop("truth", None)
        texts = list(texts) if self.screen_reports and texts is not None else [""] * inputs.shape[0]
        kwargs = {k: v.as_subclass(Tensor) if isinstance(v, Tensor) else v for k, v in kwargs.items()}
        with self.precision(plain.device):
            if network.training:
                result = self._train(plain, network, kwargs, truth)
            else:
                facts = []
                if any(texts) or self.quality is not None:
                    given = zip(plain, _geometries(inputs), strict=True)
                    facts = [ImageFacts.of(image, geometry) for image, geometry in given]
                result = self._run(plain, network, kwargs, texts, facts)
        self.assessments = []
        if self.quality is not None and isinstance(inputs, MetaTensor) and not network.training:
            for n, (logits, agreed) in enumerate(zip(result.as_subclass(Tensor), self.consistencies, strict=True)):
                clicks = kwargs["clicks"][n].cpu().numpy() if "clicks" in kwargs else None
                self.assessments.append(facts[n].assessor(logits[:3], self.quality, agreed, clicks)())
        if isinstance(inputs, MetaTensor) and isinstance(result, Tensor):
            # Invertd has to undo on the prediction the transforms that were applied to the image.
            result = MetaTensor(result.as_subclass(Tensor)).copy_meta_from(inputs, copy_attr=True)
        return result

    def precision(self, device: torch.device) -> AbstractContextManager:
        """Return the autocast context for ``device``: bf16 on a CPU if enabled; on a GPU the engine sets its own."""
        on_cpu = torch.device(device).type == "cpu"
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.cpu_bf16) if on_cpu else nullcontext()

    def _train(self, inputs: Tensor, network: nn.Module, kwargs: dict, truth: Tensor | None) -> Decoded:
        decoded = network(inputs, **kwargs)
        # Unwrap DistributedDataParallel: its hooks see the gradients of parameters wherever they are used.
        network = getattr(network, "module", network)
        if self.annotator is None or truth is None or network.clicks is None:
            return decoded
        return network.refine(decoded, *self.annotator(network, decoded, truth.as_subclass(Tensor)))

    def _run(self, inputs: Tensor, network: nn.Module, kwargs: dict, texts: list[str], facts: list[ImageFacts]):
        self.consistencies = [None] * len(texts)
        if self.window is not None:
            kwargs.pop("report_findings", None)  # the sizes in findings refer to the whole volume
            if any(texts):
                unprompted = {k: v for k, v in kwargs.items() if not k.startswith(("report_", "click"))}
                logits = self._by_windows(inputs, network, unprompted)
                kwargs = {**kwargs, **self._screened(logits, texts, facts, kwargs)}
            return self._by_windows(inputs, network, kwargs)
        if self.attention or self.tta or any(texts):
            return self._whole(inputs, network, texts, facts, **kwargs)
        return network(inputs, **kwargs)

    def _whole(
        self,
        inputs: Tensor,
        network: nn.Module,
        texts: list[str],
        facts: list[ImageFacts],
        clicks: Tensor | None = None,
        click_targets: Tensor | None = None,
        **kwargs,
    ) -> Tensor:
        network = getattr(network, "module", network)
        report = {name: kwargs.pop(name) for name in list(kwargs) if name.startswith("report_")}
        encoded = encode(network, inputs, self.tta, **kwargs)
        if any(texts):
            report.update(self._screened(decode(network, encoded).logits, texts, facts, report))
        decoded = decode(network, encoded, report)
        if clicks is not None:
            decoded = network.refine(decoded, clicks, click_targets)
        if not self.attention:
            return decoded.refined
        maps = decoded.attention.float().sigmoid()
        if maps.shape[1]:
            maps = F.interpolate(maps, size=decoded.logits.shape[2:], mode="trilinear", align_corners=False)
        else:
            maps = decoded.logits[:, :0]
        return torch.cat([decoded.refined, maps], dim=1)

    def _screened(
        self, logits: Tensor, texts: list[str], facts: list[ImageFacts], report: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Mask what ``logits``, decoded without the reports, contradict: findings, or reports about another place."""
        used = torch.ones(len(texts), dtype=torch.bool, device=logits.device)
        trusted = torch.ones(len(texts), len(FINDING_SLOTS), dtype=torch.bool, device=logits.device)
        for n, (text, known) in enumerate(zip(texts, facts, strict=True)):
            if text:
                self.consistencies[n] = known.compare(text, known.evidence(logits[n]))
                used[n] = self.consistencies[n].same_place
                trusted[n] = torch.tensor(self.consistencies[n].trusted)
        screened = {"report_mask": report["report_mask"] & used[:, None]}
        if "report_findings" in report:
            screened["report_findings"] = report["report_findings"] * trusted[:, :, None]
        return {**report, **screened}

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
            # Never larger than the volume: coordinates in a padded volume would give the network the wrong position.
            [min(side, whole) for side, whole in zip(self.window, inputs.shape[2:], strict=True)],
            sw_batch_size=1,
            overlap=self.overlap,
            mode="gaussian",
            with_coord=True,
            padding_mode="constant",
        )
        return sliding(inputs, predict)


def _geometries(inputs: Tensor) -> list[Geometry]:
    """Return the geometry of each image of a batch; a plain tensor has none and is taken as 1 mm."""
    if not isinstance(inputs, MetaTensor):
        return [Geometry(np.eye(4), np.eye(4), tuple(inputs.shape[2:]))] * inputs.shape[0]
    affines = torch.as_tensor(inputs.affine).double().cpu().numpy().reshape(-1, 4, 4)
    affines = np.broadcast_to(affines, (inputs.shape[0], 4, 4))
    native = np.asarray(inputs.meta.get(MetaKeys.ORIGINAL_AFFINE, affines), float).reshape(-1, 4, 4)
    shapes = np.asarray(inputs.meta.get(MetaKeys.SPATIAL_SHAPE, inputs.shape[2:]), int).reshape(-1, 3)
    native, shapes = np.broadcast_to(native, affines.shape), np.broadcast_to(shapes, (inputs.shape[0], 3))
    return [Geometry(a, n, tuple(s.tolist())) for a, n, s in zip(affines, native, shapes, strict=True)]
