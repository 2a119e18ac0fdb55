"""Choice of the device that runs the network."""

from __future__ import annotations

import torch

from ..errors import InputError

_EXPECTED = "cpu, or cuda where there is a GPU"


def usable_device(device: str | torch.device) -> torch.device:
    """Return the device by name, after a test allocation on it.

    Raises:
        InputError: if there is no such device.
    """
    try:
        found = torch.device(device)
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as reason:
        raise InputError("device", f"{str(device)!r} ({' '.join(str(reason).split())[:80]})", _EXPECTED) from reason
    if found.type == "meta":  # holds no data
        raise InputError("device", f"{str(device)!r}", _EXPECTED)
    return found
