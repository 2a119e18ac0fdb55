"""Find the cases among the files of one folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from brats_clip.cases import SEQUENCES, parse_name
from brats_clip.cases.free_names import AmbiguousNames, assign, is_image, is_label, stem_of
from brats_clip.cases.naming import MSD_FOLDERS, Naming
from brats_clip.cases.sequence_by_image import t1_pair_by_image
from brats_clip.errors import CaseError, InputError

from ..settings import Settings
from .folder_files import HeaderCache
from .sequences import channel_order, describing_file


@dataclass(frozen=True)
class FoundCase:
    """Files of one patient.

    Attributes:
        name: of the case, taken from its files or their folder.
        folder: the folder with its images.
        layout: name of the file naming scheme, for display.
        files: file name by sequence; for a 4D file the same for all.
        channels: channel by sequence of a 4D file; empty for 3D files.
        reasons: by sequence, why the file was assigned to it.
        label: a segmentation found with the case.
        report: a text file that belongs to this case by its name.
        alone: whether this is the only case in the folder.
        left_out: names of other images of the patient, with the reason.
        same_patient: whether ``name`` identifies the patient, as in public data sets, but not in "image.nii.gz".
    """

    name: str
    folder: Path
    layout: str
    files: Mapping[str, str]
    reasons: Mapping[str, str]
    channels: Mapping[str, int]
    label: Path | None = None
    report: Path | None = None
    alone: bool = True
    left_out: tuple[tuple[str, str], ...] = ()
    same_patient: bool = False


@dataclass(frozen=True)
class Problem:
    """Files that form no case: the name that the case would have, and a message without paths outside the studies."""

    name: str
    sentence: str


_LABEL_FOLDER = re.compile(r"(labels?|masks?|seg(mentation)?s?|predictions?|labelsT[rs])$", re.IGNORECASE)
_NOT_READ = (".nrrd", ".nhdr", ".mha", ".mhd")
_UNNAMED = "its name does not tell the sequence"
_Roles = dict[str, list[str]]


class FolderScan:
    """Find cases folder by folder.

    Files with public names (BraTS) come first, unless patterns in the settings match; then 4D files; then free names;
    then the remaining files with public names, as cases with missing sequences.

    Args:
        root: the studies folder.
        settings: ``patterns`` and ``channels`` are used.
        headers: used to tell 4D files from 3D files.
    """

    def __init__(self, root: Path, settings: Settings, headers: HeaderCache) -> None:
        self._root, self._settings, self._headers = root, settings, headers

    def __call__(self, folder: Path, files: list[str]) -> tuple[list[FoundCase], list[Problem]]:
        """Return the cases in a folder (not below it), and the problems of other files in it."""
        problems: list[Problem] = []

        def complain(name: str, sentence: str) -> None:
            where = folder.relative_to(self._root).as_posix()
            problems.append(Problem(name, f"{folder.name if where == '.' else where}: {sentence}"))

        for name in files:
            if name.lower().endswith(_NOT_READ):
                complain(name.partition(".")[0], f"{name}: not used; expected NIfTI images (.nii.gz). Convert it.")
        images = [name for name in files if is_image(name)]
        if not images:
            return [], problems
        groups = _named(files)
        patterns = self._settings.patterns if len(groups) <= 1 else {}
        if patterns and not _fit(images, patterns):
            patterns = {}
        found: list[FoundCase] = []
        if not patterns:
            found += [_named_case(folder, *key, roles) for key, roles in groups.items() if _complete(roles)]
        taken = {name for case in found for name in case.files.values()}
        rest = [name for name in images if name not in taken and not is_label(name, folder.name)]
        four_d, rest = self._four_d(folder, rest, complain)
        found += four_d
        waiting = {key: roles for key, roles in groups.items() if _images(roles) <= set(rest)}
        found += _by_names(folder, rest, waiting, patterns, complain, bool(found))
        return [_with_company(case, folder, files, len(found) == 1) for case in found], problems

    def _four_d(self, folder: Path, names: list[str], complain: Callable) -> tuple[list[FoundCase], list[str]]:
        """Cases in 4D files, and the names of other files."""
        found, rest = [], []
        for name in names:
            try:
                header = self._headers.get(folder / name)
            except CaseError as problem:
                if assign([name], {}):  # part of a case: reported when the case is opened
                    rest.append(name)
                else:
                    complain(stem_of(name), f"{name}: found {problem.found}; expected {problem.expected}.")
                continue
            if header.shape[3:] != (4,):
                rest.append(name)
                continue
            try:
                order, reason = channel_order(self._settings.channels, describing_file(folder, self._root))
            except InputError as problem:
                complain(stem_of(name), f"dataset.json: found {problem.found}; expected {problem.expected}.")
                continue
            reasons = {sequence: f"channel {order[sequence]} of the 4D file, {reason}" for sequence in SEQUENCES}
            files = dict.fromkeys(SEQUENCES, name)
            found.append(FoundCase(stem_of(name), folder, "4D NIfTI", files, reasons, order))
        return found, rest


def _named(files: list[str]) -> dict[tuple[str, Naming], _Roles]:
    """Group files by case and naming scheme, then by role. Groups without images are dropped."""
    groups: dict[tuple[str, Naming], _Roles] = {}
    for name in files:
        if parsed := parse_name(name):
            case, role, naming = parsed
            groups.setdefault((case, naming), {}).setdefault(role, []).append(name)
    return {key: roles for key, roles in groups.items() if any(s in roles for s in SEQUENCES)}


def _images(roles: _Roles) -> set[str]:
    return {name for sequence in SEQUENCES for name in roles.get(sequence, [])}


def _complete(roles: _Roles) -> bool:
    return all(len(roles.get(sequence, [])) == 1 for sequence in SEQUENCES)


def _fit(images: list[str], patterns: dict[str, str]) -> bool:
    try:
        return bool(set(assign(images, patterns)) & set(patterns))
    except AmbiguousNames:
        return True


def _named_case(folder: Path, case: str, naming: Naming, roles: _Roles) -> FoundCase:
    files = {sequence: roles[sequence][0] for sequence in SEQUENCES if sequence in roles}
    reasons = dict.fromkeys(files, f"named as in {naming.name}")
    label = roles.get("label", [None])[0]
    report = roles.get("report", [None])[0]
    return FoundCase(
        name=case,
        folder=folder,
        layout=naming.name,
        files=files,
        reasons=reasons,
        channels={},
        label=folder / label if label else None,
        report=folder / report if report else None,
        same_patient=True,
    )


def _by_names(
    folder: Path,
    rest: list[str],
    groups: dict[tuple[str, Naming], _Roles],
    patterns: dict[str, str],
    complain: Callable,
    others: bool,
) -> Iterator[FoundCase]:
    """Find cases in 3D files that form no complete case under a public naming scheme."""
    name = next(iter(groups))[0] if len(groups) == 1 else folder.name
    asked: list[str] = []

    def resolve_t1(names: list[str]) -> dict[str, str]:
        asked.extend(names)
        return t1_pair_by_image(folder, names)

    try:
        free, ambiguity = assign(rest, patterns, folder.name, resolve_t1), None
    except AmbiguousNames as problem:
        free, ambiguity = {}, str(problem)
    if patterns and ambiguity:
        complain(
            name,
            f"{ambiguity}; one file per sequence is expected. The patterns in use are "
            f"{', '.join(f'pattern_{s} {p!r}' for s, p in patterns.items())}: make them fit one file each.",
        )
        return
    if len(groups) <= 1 and len(free) > max((sum(s in r for s in SEQUENCES) for r in groups.values()), default=0):
        reasons = {s: f"fits the pattern {patterns[s]}" if s in patterns else "by the words in its name" for s in free}
        reasons |= {s: "by the enhancement that it shows" for s, file in free.items() if file in asked}
        left_out = tuple((other, _UNNAMED) for other in rest if other not in free.values())
        yield FoundCase(name, folder, "free names", free, reasons, {}, left_out=left_out)
        return
    for (case, naming), roles in groups.items():
        twice = [names for s, names in roles.items() if s in SEQUENCES and len(names) > 1]
        if twice:
            complain(case, f"both {' and '.join(twice[0])}; one file of each kind is expected.")
        else:
            yield _named_case(folder, case, naming, roles)
    if groups or others or not rest:
        return
    if ambiguity:
        complain(name, f"{ambiguity}; one file per sequence is expected, see --conf pattern_t1 and so on.")
    elif not _LABEL_FOLDER.match(folder.name):
        shown = ", ".join(rest[:3]) + (f" and {len(rest) - 3} more" if len(rest) > 3 else "")
        complain(name, f"{shown}: {_UNNAMED}; set --conf pattern_t1 and so on.")


def _with_company(case: FoundCase, folder: Path, files: list[str], alone: bool) -> FoundCase:
    """Add the label found with a case, and whether it is the only case in the folder."""
    label = case.label
    if label is None and case.channels and folder.name in MSD_FOLDERS:
        beside = folder.parent / MSD_FOLDERS[folder.name] / case.files[SEQUENCES[0]]
        label = beside if beside.is_file() else None
    if label is None:
        wanted = [f"{case.name}{end}" for end in ("_seg.nii.gz", "_seg.nii", "-seg.nii.gz", "-seg.nii")]
        fits = [name for name in files if name.lower() in {w.lower() for w in wanted}]
        if not fits and alone:
            fits = [name for name in files if is_image(name) and is_label(name, folder.name)]
        label = folder / fits[0] if len(fits) == 1 else None
    return replace(case, label=label, alone=alone)
