"""Identify sequences by file names that follow no convention."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase

from .contrast_words import contrast_of, resolve_hyphens
from .naming import SEQUENCES, parse_name

__all__ = ["AmbiguousNames", "assign", "find_label", "is_image", "is_label", "sequence_of", "stem_of"]

_EXTENSION = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_SEPARATOR = re.compile(r"[\s\-_.+,()\[\]]+")

_PLANE = re.compile(r"^(ax|sag|cor|tra|3d)(?=t[12]|flair)")  # "axT1"

_LABEL = {"seg", "segm", "segmentation", "label", "labels", "labelmap", "mask", "gt", "roi", "groundtruth"}
# Words that mark another kind of image, or a computed map, even if the name also contains "T1".
_OTHER = {"star", "gre", "swi", "adc", "dwi", "dti", "fa", "md", "dsc", "dce", "asl", "cbv", "cbf", "map", "pd", "diff"}

_T1 = {"t1", "t1w", "t1n", "t1wi", "t1pre", "t1native", "t1nativ", "mprage", "t1mprage", "t1se", "t1tse", "t1fse"}
_T1CE = {"t1c", "t1ce", "t1gd", "t1cgd", "t1post", "t1contrast", "t1km", "t1wce", "t1wgd", "t1cw", "t1gad", "t1wpost"}
_T2 = {"t2", "t2w", "t2wi", "t2se", "t2tse", "t2fse"}
_FLAIR = {"flair", "fla", "t2flair", "t2f", "tirmflair", "flairw"}


# Processed versions are used only if there is no plain file: UCSF-PDGM has T1_bias, bias-corrected, beside T1.
_SECOND = {"bias", "n4", "corrected", "bet", "stripped"}
# A mask of the brain or of a structure in it is not a tumour label.
_NO_TUMOUR = {"brain", "parenchyma", "ventricle", "ventricles", "bet", "hdbet", "skull", "head"}


class AmbiguousNames(Exception):
    """Two files fit one sequence, or one file fits two sequences."""


def is_image(file_name: str) -> bool:
    """Whether the name is that of a NIfTI file and not hidden."""
    return bool(_EXTENSION.search(file_name)) and not file_name.startswith(".")


def stem_of(file_name: str) -> str:
    """Return the name without .nii or .nii.gz."""
    return _EXTENSION.sub("", file_name)


def is_label(file_name: str, prefix: str = "") -> bool:
    """Whether the name says that the file is a segmentation; ``prefix`` as for ``sequence_of``."""
    parsed = parse_name(file_name)
    if parsed and parsed[1] in SEQUENCES:
        return False
    return not _LABEL.isdisjoint(_words(_without(stem_of(file_name), prefix)))


def find_label(file_names: Iterable[str], prefix: str = "") -> str | None:
    """Return the only file that is a tumour segmentation; None if there is none, or more than one."""
    labels = [n for n in file_names if is_image(n) and is_label(n, prefix)]
    labels = [n for n in labels if _NO_TUMOUR.isdisjoint(_words(_without(stem_of(n), prefix)))]
    return labels[0] if len(labels) == 1 else None


def sequence_of(name: str, prefix: str = "") -> str | None:
    """Return the sequence that ``name`` indicates, such as "t1ce" for ``T1_post.nii.gz`` or ``T1w Gd``; None if none.

    Args:
        name: a file name, or the name of a channel in a ``dataset.json``.
        prefix: start of the name to ignore, such as the name of the patient's folder.
    """
    stem = _without(stem_of(name), prefix)
    words = _words(stem)
    if words & (_LABEL | _OTHER):
        return None
    t1, t2 = bool(words & (_T1 | _T1CE)), bool(words & _T2)
    if words & _FLAIR:
        return None if t1 else "flair"
    if t1 == t2:
        return None
    if t2:
        return "t2"
    return "t1ce" if contrast_of(stem).answer == "yes" else "t1"


def assign(
    file_names: Iterable[str],
    patterns: Mapping[str, str],
    prefix: str = "",
    resolve_t1: Callable[[list[str]], Mapping[str, str]] = lambda names: {},
) -> dict[str, str]:
    """Choose one file per sequence.

    Args:
        file_names: the files of one patient.
        patterns: by sequence, such as ``T1*.nii.gz``, ignoring letter case; a sequence without a pattern is found by
            its usual names. A file that is the only one for a sequence is no candidate for another.
        prefix: as for ``sequence_of``.
        resolve_t1: called to decide which of two files is "t1" and which "t1ce" if their names do not differ in this.

    Returns:
        File name by sequence, in the order of ``SEQUENCES``; sequences that no file fits are left out.

    Raises:
        AmbiguousNames: if two files fit a sequence, or one file alone fits two.
    """
    names = [name for name in file_names if is_image(name) and not is_label(name, prefix)]
    fits = {s: [n for n in names if fnmatchcase(n.lower(), p.lower())] for s, p in patterns.items()}
    claimed = {name for group in fits.values() for name in group}
    free = [(name, sequence_of(name, prefix)) for name in names if name not in claimed]
    said = {n: contrast_of(_without(stem_of(n), prefix)) for n, named in free if named in ("t1", "t1ce")}
    native = {n for n, words in resolve_hyphens(said).items() if words.answer == "no"}
    free = [(name, "t1" if name in native else named) for name, named in free]
    for sequence in SEQUENCES:
        if sequence not in patterns:
            fits[sequence] = [name for name, named in free if named == sequence]
    for sequence, group in fits.items():
        plain = [name for name in group if _SECOND.isdisjoint(_words(_without(stem_of(name), prefix)))]
        fits[sequence] = plain if plain and sequence not in patterns else group
    alike = [s for s in ("t1", "t1ce") if s not in patterns and len(fits[s]) == 2]
    if len(alike) == 1 and not fits[{"t1": "t1ce", "t1ce": "t1"}[alike[0]]]:
        fits |= {sequence: [name] for name, sequence in resolve_t1(fits[alike[0]]).items()}
    settled: set[str] = set()
    while alone := [s for s, group in fits.items() if len(group) == 1 and s not in settled]:
        settled.add(alone[0])
        taken = fits[alone[0]][0]
        for sequence, group in fits.items():
            if sequence not in settled and taken in group and len(group) > 1:
                group.remove(taken)
    for sequence in SEQUENCES:
        if len(fits[sequence]) > 1:
            raise AmbiguousNames(f"{' and '.join(sorted(fits[sequence]))} both fit {sequence}")
        others = [s for s in SEQUENCES if s != sequence and fits[s] and fits[s] == fits[sequence]]
        if others:
            raise AmbiguousNames(f"{fits[sequence][0]} fits both {sequence} and {others[0]}")
    return {sequence: fits[sequence][0] for sequence in SEQUENCES if fits[sequence]}


def _without(stem: str, prefix: str) -> str:
    starts = prefix and stem.lower().startswith(prefix.lower()) and len(stem) > len(prefix)
    return stem[len(prefix) :] if starts else stem


def _words(stem: str) -> set[str]:
    return {_PLANE.sub("", word) for word in _SEPARATOR.split(stem.lower()) if word}
