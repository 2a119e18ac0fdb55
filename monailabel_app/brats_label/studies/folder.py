"""Cases from a local studies folder."""

from __future__ import annotations

import difflib
import os
import threading
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from brats_clip.errors import CaseError, InputError

from ..durable import KeyedLocks, identity
from ..errors import NotFound, Refused
from ..settings import Settings
from . import SEQUENCES, Case, ChosenImage, LeftOutImage, reference_of
from .folder_files import HeaderCache, Stamps, find_report, has_changed, walk
from .folder_scan import FolderScan, FoundCase, Problem
from .identity import Identities, Identity, distinct_ids, patient_key, safe_name
from .sequences import split

_CHECK_EVERY_S = 1.0


@dataclass(frozen=True)
class _Listing:
    cases: dict[str, Case] = field(default_factory=dict)
    found: dict[str, FoundCase] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    stamps: Stamps = field(default_factory=dict)


class FolderSource:
    """Cases below a folder: BraTS and MSD layouts, a folder per patient, 4D files. Safe to use from several threads.

    Implements ``CaseSource``. The listing is cached; at most once a second, the folders are checked for changes.

    Args:
        root: the studies folder. ``labels`` in it, hidden folders and the workspace are skipped.
        settings: ``reference``, ``patterns``, ``channels`` and ``workspace`` are used.
        cache: folder for split 4D files.
        identities: the IDs given to cases so far; None keeps them in memory only.

    Raises:
        InputError: if ``root`` is not a folder.
    """

    def __init__(self, root: Path, settings: Settings, cache: Path, identities: Identities | None = None) -> None:
        self.root = Path(root).expanduser().absolute()
        if not self.root.is_dir():
            raise InputError(self.root, "a file" if self.root.exists() else "no such folder", "the studies folder")
        self._settings, self._cache = settings, Path(cache).expanduser().absolute()
        workspace = Path(settings.workspace).expanduser().absolute() if settings.workspace else self.root
        own = {self.root / "labels", workspace / "labels", workspace, self._cache}
        self._skip = frozenset(own - {self.root})
        self._headers, self._identities = HeaderCache(), identities or Identities()
        self._scan_folder = FolderScan(self.root, settings, self._headers)
        self._splitting = KeyedLocks()
        self._lock = threading.Lock()
        self._listing: _Listing | None = None
        self._checked = 0.0

    def cases(self) -> dict[str, Case]:
        """Return all cases by ID."""
        return dict(self._fresh().cases)

    def refresh(self) -> None:
        """Scan the folder again."""
        with self._lock:
            self._listing = self._look()
            self._checked = time.monotonic()

    def problems(self) -> list[str]:
        """Return which files form no case, and why; paths are relative to the studies folder."""
        return [problem.sentence for problem in self._fresh().problems]

    def resolve(self, image_id: str) -> tuple[Case, str]:
        """Return the case and the sequence that ``CASE`` (its reference) or ``CASE@flair`` refers to.

        Raises:
            NotFound: with similar IDs, or the reason why the files of that name form no case.
        """
        listing = self._fresh()
        if image_id in listing.cases:
            case = listing.cases[image_id]
            return case, case.reference
        case_id, at, sequence = str(image_id).rpartition("@")
        if at and case_id in listing.cases and sequence in SEQUENCES:
            case = listing.cases[case_id]
            if sequence not in case.images:
                raise NotFound(f"Case {case_id} has no {sequence}; it has {', '.join(case.images)}.")
            return case, sequence
        raise NotFound(_not_found(str(image_id), case_id if at else str(image_id), listing))

    def native_files(self, case: Case) -> dict[str, Path]:
        """Return a 3D NIfTI file per sequence; a 4D file is split once.

        Raises:
            NotFound: if the case no longer exists.
            Refused: if a file is missing, not a NIfTI file or not 3D.
        """
        found = self._found(case)
        try:
            if found.channels:
                path = found.folder / found.files[case.reference]
                with self._splitting(path):
                    return split(path, found.channels, case.case_id, self._cache)
            files = {sequence: found.folder / name for sequence, name in found.files.items()}
            for path in files.values():
                header = self._headers.get(path)
                if len(header.shape) != 3:
                    shape = " x ".join(map(str, header.shape))
                    raise CaseError(path, f"an image of shape {shape}", "a 3D image")
        except CaseError as problem:
            name = Path(problem.where).name
            sequences = [s for s, file in found.files.items() if file == name]
            what = sequences[0] if len(sequences) == 1 else "4D file"
            raise Refused(
                f"Case {case.case_id}, {what} ({name}): found {problem.found}; expected {problem.expected}."
            ) from None
        return files

    def fingerprint(self, case: Case) -> list:
        """Return the name, date (ns) and size of each original file, and the report.

        Raises:
            NotFound: if the case no longer exists.
            Refused: if the report cannot be read.
            OSError: if a file no longer exists.
        """
        found = self._found(case)
        files = [(s, name, *identity(found.folder / name)[1:]) for s, name in sorted(found.files.items())]
        return [files, sorted(found.channels.items()), self.report(case)]

    def report(self, case: Case) -> str:
        """Return the report found with the case; "" without one.

        Raises:
            Refused: if the report cannot be read; the message does not contain its text.
        """
        return find_report(self._found(case), case.case_id, self.root)

    def label_file(self, case: Case) -> Path | None:
        """Return the segmentation that came with the images, with the labels of its data set; None without one."""
        return self._found(case).label

    def path_at_hand(self, case: Case) -> str:
        """Return the path of the reference sequence; "" if it must first be split from a 4D file."""
        found = self._found(case)
        return "" if found.channels else str(found.folder / found.files[case.reference])

    def _found(self, case: Case) -> FoundCase:
        listing = self._fresh()
        if case.case_id not in listing.found:
            raise NotFound(_not_found(case.case_id, case.case_id, listing))
        return listing.found[case.case_id]

    def _fresh(self) -> _Listing:
        listing = self._listing
        if listing is not None and time.monotonic() - self._checked < _CHECK_EVERY_S:
            return listing
        # While one thread scans, the others use the previous listing; without one they wait.
        if not self._lock.acquire(blocking=listing is None):
            return listing
        try:
            if self._listing is None or has_changed(self._listing.stamps):
                self._listing = self._look()
            self._checked = time.monotonic()
            return self._listing
        finally:
            self._lock.release()

    def _look(self) -> _Listing:
        found: list[FoundCase] = []
        problems: list[Problem] = []
        stamps: Stamps = {}
        for folder, files, error in walk(self.root, self._skip, stamps):
            if error is not None:
                where = folder.relative_to(self.root).as_posix()
                problems.append(Problem(folder.name, f"{where}: a folder that cannot be opened ({error.strerror})."))
                continue
            cases, wrong = self._scan_folder(folder, files)
            found += cases
            problems += wrong
        identities = self._identities.of(self._places(found), lambda new, taken: self._name(found, new, taken))
        by_id = dict(sorted(zip(identities, found, strict=True)))
        cases = {identity.case_id: self._case(*identity, case) for identity, case in by_id.items()}
        return _Listing(cases, {identity.case_id: case for identity, case in by_id.items()}, tuple(problems), stamps)

    def _places(self, found: list[FoundCase]) -> list[str]:
        """Return a unique key for each case, whatever sequences its files are assigned to: folder and name."""
        places: dict[str, None] = {}
        for case in found:
            place = (case.folder.relative_to(self.root) / case.name).as_posix() + ("#4D" if case.channels else "")
            place = os.fsencode(place).decode("utf-8", "backslashreplace")
            # One folder may contain files such as CASE_t1 and files such as CASE-t1n.
            again = (f"{place}#{number}" for number in count(2))
            places[place if place not in places else next(name for name in again if name not in places)] = None
        return list(places)

    def _name(self, found: list[FoundCase], new: list[int], taken: frozenset[str]) -> list[Identity]:
        cases = [found[index] for index in new]
        folders = [case.folder.relative_to(self.root).parts for case in cases]
        ids = distinct_ids([(case.name, parts) for case, parts in zip(cases, folders, strict=True)], taken)
        return [Identity(i, patient_key(case, i, parts)) for case, i, parts in zip(cases, ids, folders, strict=True)]

    def _case(self, case_id: str, patient: str, found: FoundCase) -> Case:
        images = {}
        for sequence in SEQUENCES:
            if sequence in found.files:
                name, reason = found.files[sequence], found.reasons[sequence]
                images[sequence] = ChosenImage(sequence, f"{case_id}@{sequence}", name, reason)
        info = {"layout": found.layout}
        if found.label is not None:
            info["label_file"] = found.label.name
        return Case(
            case_id=case_id,
            patient=patient,
            images=images,
            reference=reference_of(self._settings.reference, images),
            left_out=tuple(LeftOutImage("", name, reason) for name, reason in found.left_out),
            info=info,
        )


def _not_found(asked: str, case_id: str, listing: _Listing) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in asked[:80])
    for problem in listing.problems:
        if case_id and safe_name(problem.name) == case_id:
            return f"Case {shown} cannot be used. {problem.sentence}"
    near = difflib.get_close_matches(case_id[:120], listing.cases, n=3, cutoff=0.5)
    if near:
        return f"There is no image {shown!r}; similar ids: {', '.join(near)}."
    return f"There is no image {shown!r} among {len(listing.cases)} cases."
