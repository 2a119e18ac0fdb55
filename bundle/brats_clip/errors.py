"""Errors that a user can act on: each names the file, what was found, and what was expected."""

from __future__ import annotations

from os import PathLike


class BratsClipError(Exception):
    """Base class of all errors that this package raises on purpose."""


class InputError(BratsClipError, ValueError):
    """A file or argument that cannot be used.

    Args:
        where: the file, folder or argument at fault.
        found: what was found there.
        expected: what would have been accepted.
    """

    def __init__(self, where: str | PathLike, found: str, expected: str):
        self.where, self.found, self.expected = str(where), found, expected
        super().__init__(f"{where}: found {found}; expected {expected}.")

    def __reduce__(self):  # keep the fields when a data-loader worker sends the error to its parent
        return type(self), (self.where, self.found, self.expected)


class CaseError(InputError):
    """A case whose images cannot be used."""


class LabelError(InputError):
    """A label map with unknown values or a wrong grid."""


class ReportError(InputError):
    """A report that is empty, binary or unreadable."""


class WeightsError(InputError):
    """Weights that are missing, or do not match the network or the CLIP model."""
