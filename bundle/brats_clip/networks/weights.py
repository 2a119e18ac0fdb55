"""Contents of a checkpoint, and clear errors when it does not fit the network."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, WeightsError

CLIP, ARCHITECTURE, FROZEN = "clip_fingerprint", "architecture", "slice_encoder."
NAMES_SHOWN = 3


def fingerprint_to_bytes(fingerprint: str) -> Tensor:
    """Turn a sha256 in hex into a ``uint8`` tensor ``(32,)``; an empty string, meaning unknown, into zeros.

    Raises:
        InputError: if the string is neither.
    """
    try:
        digest = bytes.fromhex(fingerprint) if fingerprint else bytes(32)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise InputError("clip_fingerprint", repr(fingerprint), "a sha256 as 64 hexadecimal digits, or an empty string")
    return torch.tensor(list(digest), dtype=torch.uint8)


def architecture_fingerprint(net: nn.Module) -> Tensor:
    """Return a sha256, ``uint8 (32,)``, of the names and shapes of all tensors that ``net`` saves."""
    lines = [f"{name} {tuple(value.shape)}" for name, value in net.state_dict().items() if name != ARCHITECTURE]
    return torch.tensor(list(hashlib.sha256("\n".join(sorted(lines)).encode()).digest()), dtype=torch.uint8)


def drop_frozen(module: nn.Module, state: dict[str, Any], prefix: str, local_metadata: dict[str, Any]) -> None:
    """State dict post-hook: remove the frozen slice encoder, because CLIP is stored in its own file."""
    for name in [n for n in state if n.startswith(prefix + FROZEN)]:
        del state[name]


def check_clip_and_complete(
    module: nn.Module,
    state: dict[str, Any],
    prefix: str,
    local_metadata: dict[str, Any],
    strict: bool,
    missing: list[str],
    unexpected: list[str],
    errors: list[str],
) -> None:
    """Load state dict pre-hook: reject weights of another CLIP, then fill in what the state dict omits.

    Raises:
        WeightsError: if the weights were trained with another CLIP.
    """
    own, given = module.state_dict(), state.get(prefix + CLIP)
    if given is not None:
        if not given.any():
            state[prefix + CLIP] = own[CLIP]  # weights without a CLIP fingerprint keep that of the network
        elif own[CLIP].any() and not torch.equal(own[CLIP].cpu(), given.cpu()):
            found, expected = f"weights trained with CLIP {_hex(given)}", f"CLIP {_hex(own[CLIP])}"
            raise WeightsError("network weights", found, f"{expected}, with which the network was built")
    state[prefix + ARCHITECTURE] = own[ARCHITECTURE]
    frozen = getattr(module, FROZEN[:-1])
    if frozen is not None:
        for name, value in frozen.state_dict().items():
            state[prefix + FROZEN + name] = value


def check_architecture(net: nn.Module, given: Mapping[str, Tensor]) -> None:
    """Reject a state dict that is not from a network with the architecture of ``net``.

    Raises:
        WeightsError: naming the first tensors that are missing, unknown or of another shape.
    """
    own = net.state_dict()
    given = {name: value for name, value in given.items() if not name.startswith(FROZEN)}
    problems = {
        "missing": sorted(own.keys() - given.keys()),
        "unknown": sorted(given.keys() - own.keys()),
        "of another shape": sorted(n for n in own.keys() & given.keys() if own[n].shape != given[n].shape),
    }
    found = [
        f"{len(names)} {kind} ({', '.join(names[:NAMES_SHOWN])}{', ...' if len(names) > NAMES_SHOWN else ''})"
        for kind, names in problems.items()
        if names
    ]
    if found:
        raise WeightsError("network weights", "tensors " + "; ".join(found), f"the {len(own)} tensors of this network")
    # monai.networks.utils.copy_model_state replaces tensors that do not fit by the network's own, untrained ones, so
    # that names and shapes always agree; only the stored fingerprint reveals the mismatch.
    ours, theirs = own[ARCHITECTURE].cpu(), given[ARCHITECTURE].cpu()
    if not torch.equal(ours, theirs):
        found_weights = f"weights of another architecture ({_hex(theirs)})"
        raise WeightsError("network weights", found_weights, f"the architecture of this network ({_hex(ours)})")


def _hex(fingerprint: Tensor) -> str:
    return bytes(fingerprint.tolist()).hex()[:12]
