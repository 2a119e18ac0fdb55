"""MONAI's MetaTensor at the network's door: it stays outside.

Inside, it costs time with every operation, and cutting a batch into samples cuts its metadata, too.
"""

from __future__ import annotations

from monai.data import MetaTensor
from torch import Tensor


def plain(*values: Tensor | None) -> list[Tensor | None]:
    """The values as plain tensors."""
    return [value.as_tensor() if isinstance(value, MetaTensor) else value for value in values]


def with_metadata_of(value: Tensor, source: Tensor) -> Tensor:
    """``value`` with the metadata of ``source``, if that has any."""
    return MetaTensor(value).copy_meta_from(source) if isinstance(source, MetaTensor) else value
