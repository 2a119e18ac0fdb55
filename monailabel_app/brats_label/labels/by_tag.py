"""Which version of a label a tag names."""

from __future__ import annotations

from ..cases.case import Case
from ..errors import NotFound, Refused
from .store import LabelStore
from .version import FINAL, TAGS, Version


def tag_of(tag: str | None) -> str:
    """The tag that a client means; ``final`` if none is given.

    Raises:
        Refused: if labels have no such tag.
    """
    tag = str(getattr(tag, "value", tag) or FINAL)
    if tag not in TAGS:
        raise Refused(f"The tag of a label is {' or '.join(TAGS)}; found {tag[:64]!r}.")
    return tag


def version_in_use(labels: LabelStore, case: Case, tag: str | None) -> Version:
    """The label of a case with this tag, as it is now.

    Raises:
        NotFound: if the case has none.
        Refused: if labels have no such tag.
    """
    version = labels.current(case.case_id, tag_of(tag))
    if version is None:
        raise NotFound(f"Case {case.case_id} has no label with the tag {tag_of(tag)!r}.")
    return version
