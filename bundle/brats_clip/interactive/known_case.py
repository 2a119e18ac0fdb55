"""The sources of a case, kept to encode it again after its encoding was dropped."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..cases import Volume, split_channel
from ..errors import CaseError
from .sources import identity_of


@dataclass
class KnownCase:
    """A case that was set, with its sources.

    Attributes:
        name: name of the case, for messages.
        sources: by sequence, a path or a ``Volume``; None if they were dropped to save memory.
        identities: by sequence, the result of ``identity_of`` when the case was set.
    """

    name: str
    sources: dict[str, str | Volume] | None
    identities: dict[str, tuple] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Memory of the images that were given in memory, in bytes; files count as 0."""
        return sum(source.array.nbytes for source in (self.sources or {}).values() if isinstance(source, Volume))

    def unchanged_sources(self) -> dict[str, str | Volume]:
        """Return the sources, after checking that they have not changed.

        Raises:
            CaseError: if they were dropped, or a file has changed since.
        """
        sources = self.sources
        if sources is None:
            found = "images given in memory that had to go to stay within cache_bytes"
            raise CaseError(f"case {self.name}", found, "set_case again, image files, or a larger cache_bytes")
        for sequence, source in sources.items():
            if identity_of(source) != self.identities[sequence] and Path(split_channel(source)[0]).exists():
                raise CaseError(source, "a file that has changed", "set_case again")
        return sources
