"""Check the files of a case; used by the command that prepares data and by the loading transform."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..errors import CaseError, InputError, LabelError
from ..geometry import TOLERANCE_MM
from ..images import Volume, check_intensities, read_volume
from ..labels import BRATS_2023, BRATS_2024, CONVENTIONS, ET, MSD, OTHER_TASKS, REGIONS, to_internal
from .background import clear_background
from .naming import REFERENCE, SEQUENCES, convention_of_name
from .prepare import Preparation, label_on_working_grid, prepare
from .report import case_report


@dataclass
class CaseContent:
    """Contents of the files of a case: volumes by sequence, label ``(X, Y, Z)`` uint8 with 0, 1, 2, 4, and report.

    ``notes`` tell what was done to the images; ``preparation`` tells how they were brought to one grid, None if they
    were used as given.
    """

    volumes: dict[str, Volume] = field(default_factory=dict)
    label: np.ndarray | None = None
    label_convention: str = ""
    report: str = ""
    notes: list[str] = field(default_factory=list)
    preparation: Preparation | None = None


@dataclass
class CaseCheck:
    """Result of checking one case.

    ``problems`` exclude the case, ``notes`` are for information. ``shape`` is in voxels, ``spacing`` in mm, ``volumes``
    in ml per region (WT, TC, ET). Unknown values are None; an unknown ``label_convention`` is "".
    """

    case: str
    problems: list[InputError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    label_convention: str = ""
    shape: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    volumes: dict[str, float] | None = None
    has_report: bool = False

    @property
    def ok(self) -> bool:
        return not self.problems


def check_case(case: dict) -> CaseCheck:
    """Read every file of a case and report all problems; bad files raise no error.

    Args:
        case: as from ``find_cases``.
    """
    result = CaseCheck(str(case.get("case", "")))

    def keep(problem: InputError) -> None:
        # A new error: the traceback of the raised one would keep every array of a bad case in memory.
        result.problems.append(type(problem)(problem.where, problem.found, problem.expected))

    content = read_case(case, keep)
    result.has_report = bool(content.report)
    result.notes.extend(content.notes)
    if not content.volumes:
        return result
    reference = content.volumes.get(REFERENCE) or next(iter(content.volumes.values()))
    result.shape = reference.array.shape
    result.spacing = tuple(round(float(size), 4) for size in reference.grid.spacing)
    if content.label is None:
        return result
    result.label_convention = content.label_convention
    ml = np.bincount(content.label.ravel(order="K"), minlength=5) * reference.grid.voxel_ml
    result.volumes = {name: round(float(ml[list(v)].sum()), 3) for name, v in REGIONS.items()}
    if not result.volumes["WT"]:
        result.notes.append("the label holds no tumour")
    if content.label_convention == BRATS_2024 and not case.get("label_convention"):
        result.notes.append(f"label value 4 read as {BRATS_2024}: no part of the tumour")
    certain = case.get("label_convention") or convention_of_name(case["label"]) == BRATS_2023
    if content.label_convention == BRATS_2023 and not certain:
        result.notes.append(f"label value 3 read as {BRATS_2023}; a copy of MSD Task01 needs the convention given")
    return result


def check_cases(cases: Iterable[dict], workers: int = 1, progress: bool = False) -> list[CaseCheck]:
    """Check ``workers`` cases at a time; results keep the order of ``cases``. ``progress`` shows a bar on stderr."""
    cases = list(cases)
    # Threads are enough: decompression and NumPy release the GIL, and results need no pickling.
    with ThreadPoolExecutor(max(1, workers)) as pool:
        results = pool.map(check_case, cases)
        return list(tqdm(results, total=len(cases), desc="checking", unit="case", disable=None if progress else True))


def check_same_grid(volume: Volume, reference: Volume, error: type[InputError] = CaseError) -> None:
    """Raise ``error`` unless both volumes share one grid, within ``geometry.TOLERANCE_MM``."""
    name = Path(reference.path).name
    if volume.array.shape != reference.array.shape:
        shape, wanted = (" x ".join(map(str, v.array.shape)) for v in (volume, reference))
        raise error(volume.path, f"a grid of {shape} voxels", f"{wanted}, that of {name}")
    distance = volume.grid.distance_mm(reference.grid)
    if distance > TOLERANCE_MM:
        raise error(
            volume.path,
            f"a grid up to {distance:.3g} mm away from that of {name}",
            f"one grid for all files of a case (within {TOLERANCE_MM} mm)",
        )


def _raise(problem: InputError) -> None:
    raise problem


def read_case(
    case: dict,
    on_problem: Callable[[InputError], None] = _raise,
    allow_missing_sequences: bool = False,
    preprocess: str = "never",
) -> CaseContent:
    """Read the files of a case, checking each.

    Args:
        case: paths by ``t1``, ``t1ce``, ``t2``, ``flair`` (or a ``Volume`` that was read before). Optional: ``label``;
            ``report`` (text) or ``report_path``; ``label_convention``, the meaning of the label values; ``note``, what
            is already known about the files; ``brain_mask``, path of a brain mask on the grid of one sequence.
        on_problem: called with each problem; the default raises it.
        allow_missing_sequences: accept a case with one to three sequences.
        preprocess: whether to register, strip and resample; see ``prepare``.

    Raises:
        CaseError: if a sequence is missing or unreadable, not 3D, not finite or constant; if it is on another grid
            (without preprocessing), or the images cannot be prepared.
        LabelError: if the label is unreadable, on another grid or has unknown values.
        ReportError: if the report is empty or not text.
    """
    name = f"case {case.get('case') or '(no id)'}"
    content = CaseContent()
    given = {sequence: case[sequence] for sequence in SEQUENCES if case.get(sequence)}
    missing = [sequence for sequence in SEQUENCES if sequence not in given]
    if missing and not (allow_missing_sequences and given):
        on_problem(CaseError(name, f"no {', '.join(missing)}", f"a file each for {', '.join(SEQUENCES)}"))
    sources = {s: source.path if isinstance(source, Volume) else str(source) for s, source in given.items()}
    if len(set(sources.values())) < len(sources):
        shared = next(source for source in sources.values() if list(sources.values()).count(source) > 1)
        users = [sequence for sequence, source in sources.items() if source == shared]
        on_problem(CaseError(shared, f"one file for {' and '.join(users)}", "a file for each sequence"))
    opened: dict = {}
    reference = None
    for sequence in sorted(sources, key=lambda sequence: sequence != REFERENCE):
        try:
            volume = given[sequence]
            if not isinstance(volume, Volume):
                volume = read_volume(sources[sequence], opened=opened)
            if reference is None:
                reference = volume
            if preprocess == "never":
                check_same_grid(volume, reference)
            check_intensities(volume)
            content.volumes[sequence] = volume
        except InputError as problem:
            on_problem(problem)
    try:
        brain = read_volume(case["brain_mask"]) if case.get("brain_mask") else None
        content.volumes, content.preparation = prepare(content.volumes, preprocess, brain)
    except InputError as problem:
        on_problem(problem)
    content.volumes, notes = clear_background(content.volumes)
    said = [case["note"]] if case.get("note") else []
    content.notes = [*said, *(content.preparation.notes if content.preparation else []), *notes]
    if case.get("label"):
        try:
            content.label, content.label_convention = _read_label(case, reference, content.preparation)
        except InputError as problem:
            on_problem(problem)
    try:
        content.report = case_report(case)
    except InputError as problem:
        on_problem(problem)
    return content


def _read_label(case: dict, reference: Volume | None, preparation: Preparation | None) -> tuple[np.ndarray, str]:
    volume = read_volume(case["label"], LabelError)
    if preparation is not None:
        volume = label_on_working_grid(volume, preparation) or volume
        if not volume.grid.same_as(preparation.working):
            raise LabelError(volume.path, f"a label on a grid of its own ({volume.grid})", "the grid of one sequence")
    elif reference is not None:
        check_same_grid(volume, reference, LabelError)
    given = case.get("label_convention") or None
    if given is not None and given not in (known := CONVENTIONS | OTHER_TASKS):
        raise LabelError(volume.path, f"the label convention {given!r}", f"one of {', '.join(known)}")
    hint = given or convention_of_name(case["label"]) or convention_of_name(case.get(REFERENCE, ""))
    with np.errstate(invalid="ignore"):  # the comparison below catches NaN
        whole = volume.array.astype(np.uint8)
    # Finding the distinct values of 8.9 million voxels is ten times faster with bytes than with floats.
    array = whole if np.array_equal(whole, volume.array) else volume.array
    if hint == BRATS_2023 and given is None and ET in array:
        hint = BRATS_2024  # there, 4 is the resection cavity and must not be read as the ET of BraTS 2018
    if hint in (BRATS_2023, MSD) and ET in array:
        raise LabelError(volume.path, f"the label value {ET}", f"0, 1, 2, 3, the values of {hint}")
    label, convention = to_internal(array, volume.path, hint)
    if given is not None and convention != given:
        raise LabelError(volume.path, f"values of {convention}", f"those of {given}, the convention given")
    return label, convention
