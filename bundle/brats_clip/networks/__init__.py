"""The segmentation network: the fusion modules, and the U-Net that combines them."""

from .report_guided_unet import Decoded, ReportGuidedUNet

__all__ = ["Decoded", "ReportGuidedUNet"]
