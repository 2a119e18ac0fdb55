"""The network: a residual 3D U-Net with pixel-level, feature-level and semantic-level fusion."""
# ruff: noqa: UP006, UP035, UP045 - torch.jit.script reads the annotations

from typing import Any, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..reports import FEATURES, FINDING_SLOTS
from ..switches import read_switch
from .blocks import DecoderLevel, EncoderLevel, ResidualBlock, SampleNorm
from .bridge import SliceBridge, in_whole_volume
from .clicks import ClickRefinement
from .cross_attention import to_tokens, to_volume
from .finding_guidance import FindingGuidance
from .guidance import ReportGuidance, ReportMemory, ReportModulation
from .head import RegionHead, logits_layer
from .metadata import plain, with_metadata_of
from .pixel_fusion import PixelFusion, PixelProjection
from .pixel_shuffle import unshuffle
from .weights import (
    architecture_fingerprint,
    check_architecture,
    check_clip_and_complete,
    drop_frozen,
    fingerprint_to_bytes,
)


class Decoded(NamedTuple):
    """Output of ``ReportGuidedUNet.decode`` and ``refine``.

    Attributes:
        logits: ``(N, 3, D, H, W)`` for the regions WT, TC, ET.
        attention: the regions' attention maps as logits, ``(N, 3, D/2, H/2, W/2)``; no channels if switched off.
        deep: logits at 1/4 and 1/8 of the resolution; in training mode and with deep supervision only, else empty.
        features: decoder features for ``refine``.
        refined: logits after click refinement; the same as ``logits`` without clicks.
        unstated: logits before guidance by findings, in training mode; the same as ``logits`` in evaluation mode.
    """

    logits: Tensor
    attention: Tensor
    deep: List[Tensor]
    features: List[Tensor]
    refined: Tensor
    unstated: Tensor


class ReportGuidedUNet(nn.Module):
    """Segments WT, TC and ET from four MRI sequences, CLIP embeddings of a few slices, and an optional report.

    After arXiv:2507.09966, with three levels of fusion. Each option that is off removes its module; with all off, a
    plain residual 3D U-Net remains. The image is given at 1 mm; the U-Net runs at 2, 4, 8 and 16 mm, with each 2x2x2
    block of voxels as channels, so no 1 mm detail is lost.

    ``encode`` computes everything that is independent of the report, ``decode`` applies the report, and ``refine`` the
    clicks. Each step takes a fraction of the time of the step before: encode a case once, decode it again when its
    report changes, and refine again after each click.

    Args:
        sequences: number of sequences; pixel fusion needs the four T1, T1ce, T2, FLAIR.
        regions: number of regions.
        widths: channels at 2, 4, 8, 16 mm and so on; the image size must be divisible by 2 ** len(widths).
        semantic_dim: length E of CLIP's embeddings.
        slice_encoder: frozen; image ``(N, 4, D, H, W)`` to slice tokens ``(N, S, E)`` and positions ``(N, S, 2)``. Used
            when ``encode`` gets no slice tokens. It is never trained, and not part of the state dict.
        region_embeddings: ``(regions, E)``, CLIP's embeddings of the regions' descriptions.
        clip_fingerprint: sha256 of the CLIP that the embeddings come from. Saved with the weights; weights trained
            with another CLIP are refused. Empty: unknown.
        bottleneck_blocks: residual blocks at the coarsest level.
        head_width: channels of the head's hidden layer.
        pixel_fusion: learned sequence weights and difference images.
        attention: channel and spatial attention in the blocks from 4 mm on, attention gates on the skip connections.
        deep_supervision: additional logits at 4 and 8 mm.
        bridge: 3D-2D bridging at the coarsest level.
        guidance: cross-modal guidance by the report on every decoder level.
        semantic_attention: region maps that refine the prediction.
        findings: guidance by the tumour sizes that the report states.
        clicks: click refinement, see ``refine``.

    Raises:
        InputError: if the arguments are inconsistent.
    """

    def __init__(
        self,
        sequences: int = 4,
        regions: int = 3,
        widths: Sequence[int] = (16, 32, 64, 128),
        semantic_dim: int = 128,
        slice_encoder: Optional[nn.Module] = None,
        region_embeddings: Optional[Tensor] = None,
        clip_fingerprint: str = "",
        bottleneck_blocks: int = 3,
        head_width: int = 32,
        pixel_fusion: bool = True,
        attention: bool = True,
        deep_supervision: bool = True,
        bridge: bool = True,
        guidance: bool = True,
        semantic_attention: bool = True,
        findings: bool = True,
        clicks: bool = True,
    ):
        super().__init__()
        parts = {
            "pixel_fusion": pixel_fusion,
            "attention": attention,
            "deep_supervision": deep_supervision,
            "bridge": bridge,
            "guidance": guidance,
            "semantic_attention": semantic_attention,
            "findings": findings,
            "clicks": clicks,
        }
        pixel_fusion, attention, deep_supervision, bridge, guidance, semantic_attention, findings, clicks = (
            read_switch(f"network_def#{name}", value) for name, value in parts.items()
        )
        if pixel_fusion and sequences != 4:
            raise InputError("sequences", str(sequences), "4 (T1, T1ce, T2, FLAIR) for pixel fusion")
        if len(widths) < 3 or any(width % 4 for width in widths):
            raise InputError("widths", str(tuple(widths)), "at least 3 levels, each divisible by 4")
        expected = (regions, semantic_dim)
        if semantic_attention and (region_embeddings is None or tuple(region_embeddings.shape) != expected):
            found = "none" if region_embeddings is None else f"shape {tuple(region_embeddings.shape)}"
            raise InputError("region_embeddings", found, f"shape {expected}, or semantic_attention off")
        self.sequences, self.semantic_dim, self.divisor = sequences, semantic_dim, 2 ** len(widths)
        levels = len(widths) - 1
        fused = 8 * (6 if pixel_fusion else sequences)

        self.pixel_fusion = PixelFusion() if pixel_fusion else None
        self.stem = PixelProjection(fused, widths[0])
        self.stem_norm = SampleNorm(widths[0])
        # Attention over whole volumes is memory-bound: at 2 mm it would cost as much as the convolutions.
        self.stem_block = ResidualBlock(widths[0], attention=False)
        self.encoder = nn.ModuleList(
            EncoderLevel(widths[i], widths[i + 1], bottleneck_blocks if i + 1 == levels else 1 + (i > 0), attention)
            for i in range(levels)
        )
        self.slice_encoder = None
        if bridge and slice_encoder is not None:
            self.slice_encoder = slice_encoder.requires_grad_(False).eval()
        self.bridge = SliceBridge(widths[-1], semantic_dim) if bridge else None

        self.memory = ReportMemory(semantic_dim) if guidance else None
        self.guidance = ReportGuidance(widths[-1], semantic_dim, heads=4) if guidance else None
        self.decoder = nn.ModuleList()
        for i in reversed(range(levels)):
            # Attention per voxel is too slow at 2 mm. For the same reason, the level at 4 mm has only one head.
            report = ReportGuidance(widths[i], semantic_dim, heads=1 if i == 1 else 2) if guidance and i > 0 else None
            self.decoder.append(DecoderLevel(widths[i + 1], widths[i], attention, attention and i > 0, report))
        self.modulation = ReportModulation(widths[0], semantic_dim) if guidance else None
        self.deep = nn.ModuleList()
        if deep_supervision:
            self.deep.extend([logits_layer(widths[1], regions), logits_layer(widths[2], regions)])

        self.head = RegionHead(fused, widths[0], head_width, regions, region_embeddings if semantic_attention else None)

        self.finding_slots, self.finding_row = len(FINDING_SLOTS), 1 + FEATURES
        self.findings: Optional[FindingGuidance] = None
        if findings:
            self.findings = FindingGuidance(FINDING_SLOTS, regions)
        self.clicks = ClickRefinement([widths[0], widths[1]], regions) if clicks else None

        self.register_buffer("clip_fingerprint", fingerprint_to_bytes(clip_fingerprint))
        self.register_state_dict_post_hook(drop_frozen)
        self.register_load_state_dict_pre_hook(check_clip_and_complete)
        self.register_buffer("architecture", architecture_fingerprint(self))

    def train(self, mode: bool = True) -> "ReportGuidedUNet":
        """Like ``nn.Module.train``, except that the frozen slice encoder stays in evaluation mode."""
        super().train(mode)
        if self.slice_encoder is not None:
            self.slice_encoder.eval()
        return self

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False) -> Any:
        """Like ``nn.Module.load_state_dict``, with a one-line error for weights that do not fit.

        Raises:
            WeightsError: if the weights were trained with another CLIP, or, when strict, for another architecture.
        """
        if strict:
            check_architecture(self, state_dict)
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    @torch.jit.export
    def encode(
        self,
        image: Tensor,
        slice_tokens: Optional[Tensor] = None,
        slice_positions: Optional[Tensor] = None,
        extent: Optional[Tensor] = None,
    ) -> List[Tensor]:
        """Compute everything that does not depend on the report.

        Args:
            image: ``(N, 4, D, H, W)`` in the order T1, T1ce, T2, FLAIR, 1 mm, z-scored over the brain and zero outside,
                D, H, W (x, y, z in RAS) divisible by 16.
            slice_tokens: ``(N, S, E)``; ``None``: computed from ``image`` by the slice encoder.
            slice_positions: ``(N, S, 2)``: plane index, and coordinate in [-1, 1] of the whole volume.
            extent: ``(N, 3, 2)``: lowest and highest coordinate of ``image`` per axis, where the whole volume spans
                [-1, 1]; ``None``: ``image`` is the whole volume.

        Returns:
            Features for ``decode``: 2, 4, 8, 16 mm, then the 1 mm detail for the head, then ``extent``.

        Raises:
            InputError: if the image has a wrong shape, or slice tokens are needed and not given (``ValueError`` from
                TorchScript).
        """
        if not torch.jit.is_scripting():
            image, slice_tokens, slice_positions, extent = plain(image, slice_tokens, slice_positions, extent)
            self._check_tokens("slice_tokens", slice_tokens)
        if extent is None:
            extent = torch.tensor([-1.0, 1.0], device=image.device).expand(image.shape[0], 3, 2)
        extent = extent.float()
        self._check_image(image)
        mix: Optional[Tensor] = None
        if self.pixel_fusion is not None:
            mix = self.pixel_fusion(image)
        pixels = to_tokens(unshuffle(image.to(self._compute_dtype())).contiguous(memory_format=torch.channels_last_3d))
        coarse = [image.shape[2] // 2, image.shape[3] // 2, image.shape[4] // 2]
        x = to_volume(self.stem(pixels, mix), coarse)
        x = self.stem_block(F.leaky_relu(self.stem_norm(x)))
        features = [x]
        for level in self.encoder:
            x = level(x)
            features.append(x)
        if self.bridge is not None:
            if slice_tokens is None or slice_positions is None:
                slice_tokens, slice_positions = self._encode_slices(image, extent)
            features[-1] = self.bridge(x, slice_tokens, slice_positions, extent)
        features.append(to_volume(self.head.detail(pixels, mix), coarse))
        features.append(extent)
        return features

    def _compute_dtype(self) -> torch.dtype:
        probe = self.head.logits.weight[:1].flatten(1)
        return (probe @ probe.t()).dtype  # the dtype of autocast, if it is on; TorchScript cannot query it

    def _check_image(self, image: Tensor) -> None:
        shape = image.shape
        good = image.dim() == 5 and shape[1] == self.sequences and sum([n % self.divisor for n in shape[2:]]) == 0
        if not good:
            found, size = f"shape {list(shape)}", f"N x {self.sequences} x D x H x W, sides divisible by {self.divisor}"
            if not torch.jit.is_scripting():
                raise InputError("image", found, size)
            raise ValueError("image: found " + found + "; expected " + size)

    def _check_tokens(self, name: str, tokens: Optional[Tensor]) -> None:
        if tokens is not None and (tokens.dim() != 3 or tokens.shape[2] != self.semantic_dim):
            raise InputError(name, f"shape {list(tokens.shape)}", f"N x any number x {self.semantic_dim}")

    def _encode_slices(self, image: Tensor, extent: Tensor) -> Tuple[Tensor, Tensor]:
        if self.slice_encoder is None:
            if not torch.jit.is_scripting():
                raise InputError("slice_tokens", "none", "tokens and positions, as the network has no slice encoder")
            raise ValueError("slice_tokens: found none; expected tokens, as the network has no slice encoder")
        with torch.no_grad():
            tokens, positions = self.slice_encoder(image)
            return tokens, in_whole_volume(positions, extent)

    @torch.jit.export
    def decode(
        self,
        features: List[Tensor],
        report_tokens: Optional[Tensor] = None,
        report_mask: Optional[Tensor] = None,
        report_findings: Optional[Tensor] = None,
    ) -> Decoded:
        """Segment a case from its encoded features.

        Args:
            features: from ``encode``; not modified.
            report_tokens: ``(N, R, E)``, one per sentence; ``None`` or R = 0: no report.
            report_mask: ``(N, R)``, True for valid tokens; ``None``: all are. No valid token: no report.
            report_findings: ``(N, K, 1 + F)``, the report's findings as numbers: a flag if the finding is known, then
                its row of ``reports.finding_features``. For whole volumes only, because stated sizes are compared with
                predicted volumes. ``None``: nothing is known.
        """
        if not torch.jit.is_scripting():
            report_tokens, report_mask, report_findings = plain(report_tokens, report_mask, report_findings)
            self._check_tokens("report_tokens", report_tokens)
            self._check_findings(report_findings)
        detail, extent, x = features[-2], features[-1], features[-3]
        memory, memory_mask = extent, extent  # unused without guidance
        if self.memory is not None:
            memory, memory_mask = self.memory(x.shape[0], report_tokens, report_mask)
        if self.guidance is not None:
            x = self.guidance(x, memory, memory_mask, extent)
        decoded = [x]
        for i, level in enumerate(self.decoder):
            x = level(x, features[len(features) - 4 - i], memory, memory_mask, extent)
            decoded.append(x)
        if self.modulation is not None:
            x = self.modulation(x, memory, memory_mask)

        logits, attention = self.head(x, detail)
        deep: List[Tensor] = []
        if self.training:
            for i, head in enumerate(self.deep):
                deep.append(head(decoded[len(decoded) - 2 - i]).float())
        unstated = logits
        if self.findings is not None and self.training and report_findings is None:
            # Every parameter takes part in training, as DistributedDataParallel requires.
            report_findings = torch.zeros([x.shape[0], self.finding_slots, self.finding_row], device=x.device)
        if self.findings is not None and report_findings is not None:
            # Detached, so that findings are always compared with what the network sees in the image alone.
            logits = self.findings(unstated.detach(), report_findings)
            if not self.training:
                unstated = logits
        return Decoded(logits, attention, deep, [decoded[-1], decoded[-2]], logits, unstated)

    def _check_findings(self, findings: Optional[Tensor]) -> None:
        expected = [self.finding_slots, self.finding_row]
        if findings is not None and (findings.dim() != 3 or list(findings.shape[1:]) != expected):
            raise InputError("report_findings", f"shape {list(findings.shape)}", f"N x {expected[0]} x {expected[1]}")

    @torch.jit.export
    def refine(self, decoded: Decoded, clicks: Tensor, click_targets: Tensor) -> Decoded:
        """Correct the logits of ``decode`` near the clicks; voxels more than about 40 mm away are unchanged.

        Args:
            decoded: from ``decode``. Refinement starts from its logits: pass all clicks of the case, not only the last.
            clicks: ``(N, K, 3)``, voxel coordinates in the image (0 is the centre of the first voxel); K may be 0.
            click_targets: ``(N, K, regions)``: 1 where the voxel is in the region, -1 where it is not, 0 where the
                click leaves it open; all 0 for padding.

        Raises:
            InputError: for other shapes, or if the network was built without clicks.
        """
        if not torch.jit.is_scripting():
            clicks, click_targets = plain(clicks, click_targets)
            self._check_clicks(clicks, click_targets, decoded.logits)
        if self.clicks is None or clicks.shape[1] == 0:
            return decoded
        features = [x.detach() for x in decoded.features]  # training on clicks must not change the U-Net
        refined = self.clicks(decoded.logits.detach(), features, clicks, click_targets)
        return Decoded(decoded.logits, decoded.attention, decoded.deep, decoded.features, refined, decoded.unstated)

    def _check_clicks(self, clicks: Tensor, targets: Tensor, logits: Tensor) -> None:
        if self.clicks is None and clicks.dim() == 3 and clicks.shape[1] > 0:
            raise InputError("clicks", "clicks", "none, as the network was built without them")
        for name, value, last in (("clicks", clicks, 3), ("click_targets", targets, logits.shape[1])):
            expected = (logits.shape[0], clicks.shape[1] if clicks.dim() == 3 else 0, last)
            if tuple(value.shape) != expected:
                raise InputError(name, f"shape {list(value.shape)}", f"{expected[0]} x number of clicks x {last}")

    def forward(
        self,
        image: Tensor,
        slice_tokens: Optional[Tensor] = None,
        slice_positions: Optional[Tensor] = None,
        report_tokens: Optional[Tensor] = None,
        report_mask: Optional[Tensor] = None,
        extent: Optional[Tensor] = None,
        clicks: Optional[Tensor] = None,
        click_targets: Optional[Tensor] = None,
        report_findings: Optional[Tensor] = None,
    ) -> Tensor:
        """Encode, decode and refine; see these methods for the arguments.

        Returns:
            Logits ``(N, 3, D, H, W)`` for WT, TC, ET. In training mode, unless scripted, all of ``Decoded``, so that
            every parameter takes part in the forward pass of ``DistributedDataParallel``.
        """
        features = self.encode(image, slice_tokens, slice_positions, extent)
        decoded = self.decode(features, report_tokens, report_mask, report_findings)
        if clicks is not None and click_targets is not None:
            decoded = self.refine(decoded, clicks, click_targets)
        if torch.jit.is_scripting():
            return decoded.refined
        return decoded if self.training else with_metadata_of(decoded.refined, image)
