"""Identify the sequences in a 4D file, and split it into 3D files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from brats_clip.cases import MSD_CHANNELS, SEQUENCES, read_volume
from brats_clip.cases.free_names import sequence_of
from brats_clip.errors import CaseError, InputError
from brats_clip.images import read_header, write_image

from ..durable import atomic_folder, identity, key_of
from .folder_files import MAX_JSON_BYTES

DESCRIPTION = "dataset.json"


def describing_file(folder: Path, root: Path) -> Path | None:
    """Return the nearest ``dataset.json`` in ``folder`` or above, not above ``root``."""
    for place in (folder, *folder.parents):
        if (place / DESCRIPTION).is_file():
            return place / DESCRIPTION
        if place == root:
            return None
    return None


def channel_order(channels: str, description: Path | None) -> tuple[dict[str, int], str]:
    """Return the channel of each sequence in a 4D file, and the source of this information.

    Args:
        channels: the setting, such as "flair,t1,t1ce,t2"; "" if it is not given.
        description: a ``dataset.json`` of MSD ("modality") or nnU-Net ("channel_names", "modality").

    Returns:
        Channel by sequence, and the reason, for users.

    Raises:
        InputError: if the description names four channels that are not each sequence once.
    """
    if channels:
        order = [part.strip() for part in channels.split(",")]
        return {sequence: order.index(sequence) for sequence in SEQUENCES}, "as --conf channels says"
    names = _channel_names(description) if description else {}
    if len(names) != 4:
        return {sequence: MSD_CHANNELS[sequence] for sequence in SEQUENCES}, "in the order of MSD Task01"
    named = {sequence_of(name): channel for channel, name in names.items()}
    if set(named) != set(SEQUENCES) or sorted(named.values()) != [0, 1, 2, 3]:
        found = ", ".join(names[channel] for channel in sorted(names))
        raise InputError(description, f"the channels {found}", "each sequence once; else set --conf channels")
    return {sequence: named[sequence] for sequence in SEQUENCES}, f"as {DESCRIPTION} says"


def _channel_names(description: Path) -> dict[int, str]:
    try:
        if description.stat().st_size > MAX_JSON_BYTES:
            return {}
        content = json.loads(description.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    for key in ("channel_names", "modality"):
        names = content.get(key) if isinstance(content, dict) else None
        if isinstance(names, Mapping) and all(str(channel).isdecimal() for channel in names):
            return {int(channel): str(name)[:40] for channel, name in names.items()}
    return {}


def split(path: Path, order: Mapping[str, int], case_id: str, cache: Path) -> dict[str, Path]:
    """Write a 3D file per sequence, once.

    Args:
        path: the 4D file.
        order: channel by sequence.
        case_id: prefix of the file names.
        cache: the files go into a subfolder of it.

    Returns:
        ``CASE_flair.nii.gz`` and so on, with the voxels and the affine of the 4D file.

    Raises:
        CaseError: if the file cannot be read, or does not have four channels.
    """
    try:
        folder = cache / "four_d" / key_of(identity(path), case_id, sorted(order.items()))
    except OSError as reason:
        raise CaseError(path, f"no readable file ({reason.strerror})", "a 4D NIfTI file") from reason
    files = {sequence: folder / f"{case_id}_{sequence}.nii.gz" for sequence in order}
    if all(file.is_file() for file in files.values()):
        return files
    header = read_header(path)
    if header.channels != 4:
        raise CaseError(path, f"an image of shape {' x '.join(map(str, header.shape))}", "a 4D image of four channels")
    opened: dict = {}  # unpacked once for all channels
    with atomic_folder(folder) as draft:
        for sequence, channel in order.items():
            array, affine, _ = read_volume(f"{path}#{channel}", opened=opened)
            if header.whole and np.abs(array).max() <= np.iinfo(np.int16).max:
                array = array.astype(np.int16)
            write_image(draft / files[sequence].name, array, affine)
    return files
