"""Cases of the app, as the scorer wants them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from monailabel.interfaces.datastore import Datastore

from ..cases.case import Case, CaseSource
from ..errors import NotFound
from .background import CaseFiles


class OnOneGrid(Protocol):
    """What a case looks like once its sequences lie on one grid."""

    files: Mapping[str, Path]


class LibraryCases:
    """``CasesToScore`` of a server.

    Args:
        datastore: which cases are labelled.
        source: where cases and their reports are.
        aligned: brings the sequences of a case onto one grid, from its cache if they are there.
    """

    def __init__(self, datastore: Datastore, source: CaseSource, aligned: Callable[[Case], OnOneGrid]) -> None:
        self.datastore, self.source, self.aligned = datastore, source, aligned

    def unlabelled(self) -> Sequence[str]:
        """Case ids."""
        return self.datastore.get_unlabeled_images()

    def labelled(self) -> Sequence[str]:
        """Case ids."""
        return self.datastore.get_labeled_images()

    def load(self, case_id: str) -> CaseFiles:
        """The files of a case on one grid, and its report.

        Raises:
            ClientError, InputError, OSError: if they cannot be had.
        """
        case = self.source.cases().get(case_id)
        if case is None:
            raise NotFound(f"Case {case_id}: found no such case; expected one of those listed.")
        return CaseFiles(self.aligned(case).files, self.source.report(case))
