"""Conversion from and to MONAI's MetaTensor, which is not used inside the network.

There it would slow down every operation, and splitting a batch into samples would also split its metadata.
"""

from __future__ import annotations

from monai.data import MetaTensor
from torch import Tensor


def plain(*values: Tensor | None) -> list[Tensor | None]:
    """Return the values as plain tensors."""
    return [value.as_tensor() if isinstance(value, MetaTensor) else value for value in values]


def with_metadata_of(value: Tensor, source: Tensor) -> Tensor:
    """Return ``value`` with the metadata of ``source``, if it has any."""
    return MetaTensor(value).copy_meta_from(source) if isinstance(source, MetaTensor) else value
