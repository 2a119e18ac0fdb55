"""Which sequence a file is, by a name that follows no convention, and which a channel of a 4D file is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from brats_clip.cases import MSD_CHANNELS, SEQUENCES, parse_name, read_volume
from brats_clip.errors import CaseError, InputError
from brats_clip.images import read_header, write_image

from .disk_cache import identity, key_of, whole_folder

DESCRIPTION = "dataset.json"
_LONGEST = 50 * 2**20  # bytes of a description, which may list thousands of cases
_EXTENSION = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_SEPARATOR = re.compile(r"[\s\-_.+,()\[\]]+")

_PLANE = re.compile(r"^(ax|sag|cor|tra|3d)(?=t[12]|flair)")  # "axT1"

_LABEL = {"seg", "segm", "segmentation", "label", "labels", "labelmap", "mask", "gt", "roi", "groundtruth"}
# Words that make a T1 something else, or a map that was computed from one.
_OTHER = {"star", "gre", "swi", "adc", "dwi", "dti", "fa", "md", "dsc", "dce", "asl", "cbv", "cbf", "map", "pd", "diff"}

_T1 = {"t1", "t1w", "t1n", "t1wi", "t1pre", "t1native", "t1nativ", "mprage", "t1mprage", "t1se", "t1tse", "t1fse"}
_T1CE = {"t1c", "t1ce", "t1gd", "t1cgd", "t1post", "t1contrast", "t1km", "t1wce", "t1wgd", "t1cw", "t1gad", "t1wpost"}
_T2 = {"t2", "t2w", "t2wi", "t2se", "t2tse", "t2fse"}
_FLAIR = {"flair", "t2flair", "t2f", "tirmflair", "flairw"}
_WITH_AGENT = {"ce", "c", "gd", "gad", "gado", "gadolinium", "post", "postcontrast", "contrast", "enhanced", "km", "pc"}
_WITHOUT_AGENT = {"pre", "precontrast", "no", "non", "noncontrast", "without", "native", "nativ", "unenhanced", "nc"}


class Clash(Exception):
    """Two files for one sequence, or one file for two."""


def is_image(file_name: str) -> bool:
    """Whether the name is that of a NIfTI file that is not hidden."""
    return bool(_EXTENSION.search(file_name)) and not file_name.startswith(".")


def stem_of(file_name: str) -> str:
    """The name without .nii or .nii.gz."""
    return _EXTENSION.sub("", file_name)


def is_label(file_name: str, prefix: str = "") -> bool:
    """Whether the name says that the file is a segmentation; ``prefix`` as for ``sequence_of``."""
    parsed = parse_name(file_name)
    if parsed and parsed[1] in SEQUENCES:
        return False
    return not _LABEL.isdisjoint(_words(_without(stem_of(file_name), prefix)))


def sequence_of(name: str, prefix: str = "") -> str | None:
    """The sequence that ``name`` tells, such as "t1ce" for ``T1_post.nii.gz`` or ``T1w Gd``; None if it tells none.

    Args:
        name: a file name, or what a ``dataset.json`` calls a channel.
        prefix: what names begin with that says nothing, such as the patient's folder.
    """
    words = _words(_without(stem_of(name), prefix))
    if words & (_LABEL | _OTHER):
        return None
    t1, t2 = bool(words & (_T1 | _T1CE)), bool(words & _T2)
    if words & _FLAIR:
        return None if t1 else "flair"
    if t1 == t2:
        return None
    if t2:
        return "t2"
    return "t1ce" if words & _T1CE or (words & _WITH_AGENT and not words & _WITHOUT_AGENT) else "t1"


def assign(file_names: Iterable[str], patterns: Mapping[str, str], prefix: str = "") -> dict[str, str]:
    """Choose a file per sequence.

    Args:
        file_names: of one patient.
        patterns: by sequence, as in ``T1*.nii.gz``, upper and lower case alike; a sequence without one goes by its
            usual names. A file that is the only one for a sequence is no candidate for another.
        prefix: as for ``sequence_of``.

    Returns:
        File name by sequence, in the order of ``SEQUENCES``, without those that no file fits.

    Raises:
        Clash: if two files fit a sequence, or one file alone fits two.
    """
    names = [name for name in file_names if is_image(name) and not is_label(name, prefix)]
    fits = {s: [n for n in names if fnmatchcase(n.lower(), p.lower())] for s, p in patterns.items()}
    claimed = {name for group in fits.values() for name in group}
    free = [(name, sequence_of(name, prefix)) for name in names if name not in claimed]
    for sequence in SEQUENCES:
        if sequence not in patterns:
            fits[sequence] = [name for name, found in free if found == sequence]
    settled: set[str] = set()
    while alone := [s for s, group in fits.items() if len(group) == 1 and s not in settled]:
        settled.add(alone[0])
        taken = fits[alone[0]][0]
        for sequence, group in fits.items():
            if sequence not in settled and taken in group and len(group) > 1:
                group.remove(taken)
    for sequence in SEQUENCES:
        if len(fits[sequence]) > 1:
            raise Clash(f"{' and '.join(sorted(fits[sequence]))} both fit {sequence}")
        others = [s for s in SEQUENCES if s != sequence and fits[s] and fits[s] == fits[sequence]]
        if others:
            raise Clash(f"{fits[sequence][0]} fits both {sequence} and {others[0]}")
    return {sequence: fits[sequence][0] for sequence in SEQUENCES if fits[sequence]}


def _without(stem: str, prefix: str) -> str:
    starts = prefix and stem.lower().startswith(prefix.lower()) and len(stem) > len(prefix)
    return stem[len(prefix) :] if starts else stem


def _words(stem: str) -> set[str]:
    return {_PLANE.sub("", word) for word in _SEPARATOR.split(stem.lower()) if word}


def describing_file(folder: Path, root: Path) -> Path | None:
    """The nearest ``dataset.json`` in ``folder`` or above, not above ``root``."""
    for place in (folder, *folder.parents):
        if (place / DESCRIPTION).is_file():
            return place / DESCRIPTION
        if place == root:
            return None
    return None


def channel_order(channels: str, description: Path | None) -> tuple[dict[str, int], str]:
    """Where each sequence is in a 4D file, and how that is known.

    Args:
        channels: the setting, such as "flair,t1,t1ce,t2"; "" if it is not given.
        description: a ``dataset.json`` of MSD ("modality") or nnU-Net ("channel_names", "modality").

    Returns:
        Channel by sequence, and the reason for people.

    Raises:
        InputError: if the description names four channels, and not each sequence once.
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
        if description.stat().st_size > _LONGEST:
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
        case_id: what the files are named by.
        cache: folder that they go below.

    Returns:
        ``CASE_flair.nii.gz`` and so on, with the voxels and the affine of the 4D file.

    Raises:
        CaseError: if the file cannot be read, or has not four channels.
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
    with whole_folder(folder) as draft:
        for sequence, channel in order.items():
            array, affine, _ = read_volume(f"{path}#{channel}", opened=opened)
            if header.whole and np.abs(array).max() <= np.iinfo(np.int16).max:
                array = array.astype(np.int16)
            write_image(draft / files[sequence].name, array, affine)
    return files
