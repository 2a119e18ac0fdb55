"""The network: one level of fusion per file, and the U-Net that composes them."""

from .report_guided_unet import Decoded, ReportGuidedUNet

__all__ = ["Decoded", "ReportGuidedUNet"]
