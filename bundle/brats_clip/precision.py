"""Detect whether reduced precision is faster on this machine."""

from __future__ import annotations

import torch


def cpu_has_bf16() -> bool:
    """Whether this CPU has bf16 instructions; without them, bf16 is slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
