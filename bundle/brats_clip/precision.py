"""Which precision pays on this machine."""

from __future__ import annotations

import torch


def cpu_has_bf16() -> bool:
    """Whether this CPU computes in bf16; one that does not gets slower by it."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
