"""What a case was given as, to encode it again when its encoding had to go."""

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
        name: for people.
        sources: by sequence, a path or a ``Volume``; None once they were dropped to save memory.
        identities: by sequence, what ``identity_of`` said when the case was set.
    """

    name: str
    sources: dict[str, str | Volume] | None
    identities: dict[str, tuple] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Memory of the images that were given in memory, in bytes; files take none."""
        return sum(source.array.nbytes for source in (self.sources or {}).values() if isinstance(source, Volume))

    def unchanged_sources(self) -> dict[str, str | Volume]:
        """The sources, which are still those that were set.

        Raises:
            CaseError: if they were dropped, or a file has changed since.
        """
        sources = self.sources
        if sources is None:
            found = "images given in memory that had to go to stay within cache_bytes"
            raise CaseError(f"case {self.name}", found, "set_case again, files instead, or more cache_bytes")
        for sequence, source in sources.items():
            if identity_of(source) != self.identities[sequence] and Path(split_channel(source)[0]).exists():
                raise CaseError(source, "a file that has changed", "set_case again")
        return sources
