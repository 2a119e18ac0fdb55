"""Find the cases in a folder and its subfolders."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from ..errors import CaseError, InputError
from .free_names import AmbiguousNames, assign, find_label, sequence_of
from .naming import (
    FREE_NAMES,
    MSD_CHANNELS,
    MSD_FILE,
    MSD_FOLDERS,
    MSD_NAME,
    NIFTI_ENDINGS,
    NNUNET_FILE,
    NNUNET_NAME,
    SEQUENCES,
    STRAY_LABEL,
    Naming,
    describe_namings,
    parse_name,
)
from .sequence_by_image import t1_pair_by_image


@dataclass
class LeftOut:
    """Files that do not form a complete case, and the reason.

    ``has_images`` is False for a label or a report without images. ``partial`` is the incomplete case if its only fault
    is that one to three sequences are missing.
    """

    case: str
    error: InputError
    has_images: bool = True
    partial: dict | None = None


@dataclass
class Survey:
    """The cases found in a folder: complete cases, those left out, and the number of complete cases per naming."""

    cases: list[dict] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    namings: Counter[str] = field(default_factory=Counter)


def find_cases(root: str | PathLike) -> list[dict]:
    """Find every complete case below ``root``, which may itself be the folder of one case.

    Args:
        root: folder in the layout of BraTS 2018-2024, MSD Task01 or nnU-Net raw data, or with a folder per case whose
            file names identify T1, T1 post, T2 and FLAIR in any wording; nested to any depth.

    Returns:
        One dict per case, sorted by id: ``case``, and as absolute paths ``t1``, ``t1ce``, ``t2``, ``flair`` and, if
        present, ``label`` and ``report_path``. A sequence inside a 4D file is ``path#channel``.

    Raises:
        InputError: if ``root`` is not a folder, or holds no complete case.
        CaseError: if a case id occurs twice.
    """
    found = survey(root)
    if not found.cases:
        first = found.left_out[0].error
        raise InputError(root, f"no complete case, {len(found.left_out)} left out, first: {first}", "a complete case")
    return found.cases


def survey(root: str | PathLike) -> Survey:
    """Find complete and incomplete cases below ``root`` by their file names.

    Images are only opened to tell apart two T1 files if the names of both or of neither mention contrast agent: the
    enhancement decides, and the ``note`` of the case says so.

    Raises:
        InputError: if ``root`` is not a folder, or nothing in it is named like a file of a case.
        CaseError: if a case id occurs twice.
    """
    root = Path(root).expanduser().absolute()
    if not root.is_dir():
        raise InputError(root, "a file" if root.exists() else "no such folder", "a folder of cases")
    found = Survey()
    folders: dict[str, Path] = {}
    for folder, files in _walk(root, found):
        for case, naming, outcome in (
            *_msd_cases(folder, files),
            *_nnunet_cases(folder, files),
            *_cases(folder, files),
        ):
            if isinstance(outcome, LeftOut):
                found.left_out.append(outcome)
            else:
                found.cases.append(outcome)
                found.namings[naming] += 1
            if not isinstance(outcome, LeftOut) or outcome.has_images:
                if case in folders:
                    raise CaseError(root, f"case {case} in both {folders[case]} and {folder}", "each case id once")
                folders[case] = folder
    if not found.cases and not found.left_out:
        raise InputError(root, "no case", f"files named {describe_namings()}, in this folder or below it")
    found.cases.sort(key=lambda case: case["case"])
    found.left_out.sort(key=lambda left_out: left_out.case)
    return found


def _walk(root: Path, found: Survey) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder once, following links, with its file names; hidden files (``._x`` of macOS) are skipped."""

    def unreadable(error: OSError) -> None:
        problem = CaseError(error.filename, f"a folder that cannot be opened ({error.strerror})", "read permission")
        found.left_out.append(LeftOut(Path(error.filename).name, problem, has_images=False))

    seen = set()
    for folder, subfolders, files in os.walk(root, onerror=unreadable, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:  # a link to a parent folder would never end
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith((".", "__MACOSX")))
        yield Path(folder), sorted(name for name in files if not name.startswith("."))


def _cases(folder: Path, files: list[str]) -> Iterator[tuple[str, str, dict | LeftOut]]:
    """Yield (id, naming, case or ``LeftOut``) for the BraTS files of one folder."""
    groups: dict[tuple[str, Naming], dict[str, list[str]]] = {}
    msd = set(_msd_files(folder, files))
    for name in files:
        parsed = parse_name(name)
        if parsed and parsed[0] not in msd:
            case, role, naming = parsed
            groups.setdefault((case, naming), {}).setdefault(role, []).append(name)
    strays = [name for name in files if STRAY_LABEL.fullmatch(name)]
    if strays and len(groups) == 1:
        next(iter(groups.values())).setdefault("label", strays)
    outcomes = [(case, naming.name, _complete(case, naming, folder, roles)) for (case, naming), roles in groups.items()]
    if not any(isinstance(outcome, dict) for _, _, outcome in outcomes):
        free = _free_case(folder, files)
        with_images = [outcome for _, _, outcome in outcomes if outcome.has_images]
        if isinstance(free, dict) or (free is not None and not with_images):
            # Partly conventional names, such as X_T1 beside X_T1_post, belong to the same case.
            outcomes = [(free["case"] if isinstance(free, dict) else free.case, FREE_NAMES, free)]
    yield from outcomes


def _free_case(folder: Path, files: list[str]) -> dict | LeftOut | None:
    """Return the case that the files of a folder form by the words in their names; None if they form none."""
    case = folder.name
    asked: list[str] = []

    def resolve_t1(names: list[str]) -> dict[str, str]:
        asked.extend(names)
        return t1_pair_by_image(folder, names)

    try:
        found = assign(files, {}, prefix=case, resolve_t1=resolve_t1)
    except AmbiguousNames as problem:
        names = [name for name in files if sequence_of(name, case)]
        if not names or any(parse_name(name) for name in names):
            return None
        return LeftOut(case, CaseError(folder, str(problem), "one file of each sequence"))
    if len(found) < 2:
        return None
    entry = {"case": case, **{sequence: str(folder / name) for sequence, name in found.items()}}
    if asked:
        entry["note"] = f"t1ce is {found['t1ce']} and t1 {found['t1']} by the enhancement that they show"
    if label := find_label(files, case):
        entry["label"] = str(folder / label)
    reports = [name for name in files if name.lower() in ("report.txt", f"{case.lower()}_report.txt")]
    if len(reports) == 1:
        entry["report_path"] = str(folder / reports[0])
    missing = [sequence for sequence in SEQUENCES if sequence not in found]
    if missing:
        wanted = "names such as T1.nii.gz, T1_post.nii.gz, T2.nii.gz and FLAIR.nii.gz"
        return LeftOut(case, CaseError(folder, f"case {case} without {', '.join(missing)}", wanted), partial=entry)
    return entry


def _nnunet_cases(folder: Path, files: list[str]) -> Iterator[tuple[str, str, dict | LeftOut]]:
    """Yield (id, naming, case) for nnU-Net raw data: CASE_0000.nii.gz, with channel names in dataset.json."""
    matches = [match for name in files if (match := NNUNET_FILE.fullmatch(name))]
    content = None
    for place in (folder.parent, folder):
        with suppress(OSError, ValueError):
            content = content or json.loads((place / "dataset.json").read_text(encoding="utf-8"))
    if not matches or not isinstance(content, dict):
        return
    channels = content.get("channel_names") or content.get("modality") or {}
    sequences = {f"{int(n):04d}": sequence_of(str(name)) for n, name in channels.items() if str(n).isdecimal()}
    cases: dict[str, dict[str, str]] = {}
    for match in matches:
        if sequence := sequences.get(match["channel"]):
            cases.setdefault(match["case"], {})[sequence] = str(folder / match[0])
    for case, found in cases.items():
        entry = {"case": case, **{sequence: found[sequence] for sequence in SEQUENCES if sequence in found}}
        for end in NIFTI_ENDINGS:
            label = folder.parent / MSD_FOLDERS.get(folder.name, "labelsTr") / f"{case}{end}"
            if label.is_file():
                entry["label"] = str(label)
        if missing := [sequence for sequence in SEQUENCES if sequence not in found]:
            problem = CaseError(folder, f"case {case} without {', '.join(missing)}", "four channels in dataset.json")
            yield case, NNUNET_NAME, LeftOut(case, problem, partial=entry)
        else:
            yield case, NNUNET_NAME, entry


def _complete(case: str, naming: Naming, folder: Path, roles: dict[str, list[str]]) -> dict | LeftOut:
    present = [sequence for sequence in SEQUENCES if sequence in roles]
    if not present:
        names = ", ".join(name for group in roles.values() for name in group)
        problem = CaseError(folder, f"{names} without images", f"the four sequences of case {case} beside it")
        return LeftOut(case, problem, has_images=False)
    if twice := [names for names in roles.values() if len(names) > 1]:
        return LeftOut(case, CaseError(folder, f"both {' and '.join(twice[0])}", "one file of each kind"))
    keys = {key: key for key in (*SEQUENCES, "label")} | {"report": "report_path"}
    found = {"case": case, **{key: str(folder / roles[role][0]) for role, key in keys.items() if role in roles}}
    if missing := [sequence for sequence in SEQUENCES if sequence not in roles]:
        wanted = ", ".join(naming.pattern(sequence).replace("CASE", case) for sequence in missing)
        problem = CaseError(folder, f"case {case} without {', '.join(missing)}", f"{wanted} (or .nii)")
        return LeftOut(case, problem, partial=found)
    return found


def _msd_files(folder: Path, files: list[str]) -> dict[str, str]:
    """Return case ids and file names of the MSD 4D images in a folder."""
    if folder.name not in MSD_FOLDERS:
        return {}
    return {match["case"]: name for name in files if (match := MSD_FILE.fullmatch(name))}


def _msd_cases(folder: Path, files: list[str]) -> Iterator[tuple[str, str, dict]]:
    """Yield (id, naming, case) for the MSD images of one folder; their labels are in the sibling folder."""
    for case_id, name in _msd_files(folder, files).items():
        case = {"case": case_id, **{s: f"{folder / name}#{MSD_CHANNELS[s]}" for s in SEQUENCES}}
        label = folder.parent / MSD_FOLDERS[folder.name] / name
        if label.is_file():
            case["label"] = str(label)
        if f"{case_id}_report.txt" in files:
            case["report_path"] = str(folder / f"{case_id}_report.txt")
        yield case_id, MSD_NAME, case
