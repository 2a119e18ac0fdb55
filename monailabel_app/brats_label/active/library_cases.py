"""Cases of the app, as the scorer wants them."""

from __future__ import annotations

from collections.abc import Sequence

from monailabel.interfaces.datastore import Datastore

from ..errors import NotFound
from ..studies import Case, CaseSource
from ..studies.library import CaseLibrary
from .background import CaseFiles


class LibraryCases:
    """``CasesToScore`` of a server.

    Args:
        datastore: which cases are labelled.
        source: where cases and their reports are.
        library: brings the sequences of a case onto one grid, from its cache if they are there.
    """

    def __init__(self, datastore: Datastore, source: CaseSource, library: CaseLibrary) -> None:
        self.datastore, self.source, self.library = datastore, source, library

    def unlabelled(self) -> Sequence[str]:
        """Case ids."""
        return self.datastore.get_unlabeled_images()

    def labelled(self) -> Sequence[str]:
        """Case ids."""
        return self.datastore.get_labeled_images()

    def identity(self, case_id: str) -> str:
        """What tells whether a case is still the same, by its sources; nothing is fetched or converted.

        Raises:
            ClientError, InputError, OSError: if it cannot be told.
        """
        return self.library.fingerprint(self._case(case_id))

    def load(self, case_id: str) -> CaseFiles:
        """The files of a case on one grid, and its report.

        Raises:
            ClientError, InputError, OSError: if they cannot be had.
        """
        case = self._case(case_id)
        return CaseFiles(self.library.aligned(case).files, self.source.report(case))

    def _case(self, case_id: str) -> Case:
        case = self.source.cases().get(case_id)
        if case is None:
            raise NotFound(f"Case {case_id}: found no such case; expected one of those listed.")
        return case
