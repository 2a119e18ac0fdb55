"""The review queue: the state of each case, ordered by the expected gain of correcting it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any

from brats_clip.quality import NOT_FITTED

from ..case_info import Lease, Leases
from ..datastore import CaseDatastore
from ..errors import Conflict, NotFound
from ..labels import ACCEPTED_FROM, FINAL, ORIGINAL, Revision, prediction_of
from ..labels.submission import StoredLabel

NEW, PRE_ANNOTATED, EDITED = "new", "pre-annotated", "being edited"
CORRECTED, ACCEPTED = "corrected", "accepted"


@dataclass(frozen=True)
class Row:
    """A case in the queue.

    Attributes:
        case_id: its id.
        state: ``NEW``, ``PRE_ANNOTATED``, ``EDITED``, ``CORRECTED`` or ``ACCEPTED``.
        expected_dice: Dice of the pre-annotation per region, predicted without ground truth; empty if not predicted.
        look_here: places where a correction probably helps most, as in ``Segmentation.look_here``.
        quality_fitted: whether ``expected_dice`` was fitted for the weights that made the pre-annotation.
        volumes_ml: of the newest label or pre-annotation.
        version: number of the pre-annotation's revision; None without one.
        model_version: of the weights that made the pre-annotation.
        editor, until: holder of the lease ("" if unknown), and its end in seconds since 1970; "" and None without one.
        readers: users who saved a final label, in order of their first.
        readers_wanted: 2 if the case is for two readers, else 1.
    """

    case_id: str
    state: str
    expected_dice: Mapping[str, float] = field(default_factory=dict)
    look_here: Sequence[Mapping[str, Any]] = ()
    quality_fitted: bool = True
    volumes_ml: Mapping[str, float] = field(default_factory=dict)
    version: int | None = None
    model_version: str = ""
    editor: str = ""
    until: float | None = None
    readers: tuple[str, ...] = ()
    readers_wanted: int = 1

    @property
    def open(self) -> bool:
        """Whether the case needs another reader."""
        return len(self.readers) < self.readers_wanted

    @property
    def gain(self) -> float | None:
        """Mean Dice that a correction is expected to add: 1 minus the expected mean; None without a prediction."""
        values = self.expected_dice.values()
        return 1.0 - sum(values) / len(values) if values else None

    @property
    def described(self) -> str:
        """The state in words, with the readers or the lease."""
        if self.state == EDITED:
            return f"being edited by {self.editor or 'somebody'} until {_clock(self.until)}"
        return f"{self.state} by {', '.join(self.readers)}" if self.readers else self.state

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON, with ``gain`` and ``described``, and ``until`` in ISO 8601 (UTC)."""
        until = datetime.fromtimestamp(self.until, timezone.utc).isoformat("T", "seconds") if self.until else None
        return {**asdict(self), "until": until, "gain": self.gain, "described": self.described}


class ReviewQueue:
    """All cases with their state, which is derived from revisions and leases; accepts pre-annotations.

    Args:
        datastore: of the cases and labels.
        leases: of the cases.
        double_share: share of the cases for two readers; selected by ``seed`` and the case's id.
        seed: of that selection.
    """

    def __init__(self, datastore: CaseDatastore, leases: Leases, double_share: float = 0.0, seed: int = 0) -> None:
        self.datastore, self.leases = datastore, leases
        self._double_share, self._seed = double_share, seed

    def rows(self) -> list[Row]:
        """Return all cases: open ones first, then by expected gain, those without a prediction last."""
        history, granted = self.datastore.labels.by_case(), self.leases.granted()
        found = [self._row(c, history.get(c, ()), granted.get(c)) for c in self.datastore.list_images()]
        return sorted(found, key=lambda row: (not row.open, -1.0 if row.gain is None else -row.gain - 1, row.case_id))

    def row(self, case_id: str) -> Row:
        """Return one case.

        Raises:
            NotFound: if no case has this id.
        """
        case_id = self.datastore.source.resolve(case_id)[0].case_id
        return self._row(case_id, self.datastore.labels.history(case_id), self.leases.granted().get(case_id))

    def accept(self, case_id: str, who: str, client_id: str = "", version: int | None = None) -> StoredLabel:
        """Save the unchanged pre-annotation of a case as its final label.

        Args:
            case_id: id of the case.
            who: the user who accepts it.
            client_id: id of the client.
            version: of the pre-annotation that the user reviewed; None for the newest.

        Raises:
            NotFound: if no case has this id, or the case has no pre-annotation.
            Conflict: if another user has leased the case, it needs no reader, or there is a newer pre-annotation.
        """
        with self.leases.lock:
            row = self._free_row(case_id, who)
            if row.version is None:
                raise NotFound(f"Case {row.case_id} has no pre-annotation; POST /batch/infer/segmentation makes one.")
            if version not in (None, row.version):
                raise Conflict(f"Case {row.case_id}: its pre-annotation is version {row.version} now; look again.")
            if not row.open or (who or "unknown") in row.readers:
                raise Conflict(f"Case {row.case_id} is {row.described}; it needs no acceptance.")
            suggestion = self.datastore.labels.in_use(row.case_id, ORIGINAL)
            params = {"user": who, "client_id": client_id, "empty": True}
            params |= {name: suggestion.record.get(name) for name in ("model", "model_version")}
            case = self.datastore.source.resolve(row.case_id)[0]
            shown = case.images.get(suggestion.record.get("reference"), case.images[case.reference])
            facts = {ACCEPTED_FROM: suggestion.number, "clicks": 0, **prediction_of(suggestion.record)}
            stored = self.datastore.store_label(shown.image_id, suggestion.path, FINAL, params, facts)
            self.leases.release(row.case_id)
        return stored

    def lease(self, case_id: str, who: str) -> Row:
        """Lease a case for editing.

        Raises:
            NotFound: if no case has this id.
            Conflict: if another user has leased it.
        """
        with self.leases.lock:
            row = self._free_row(case_id, who)
            self.leases.grant(row.case_id, "review", who)
        return self.row(row.case_id)

    def give_back(self, case_id: str, who: str) -> Row:
        """End the lease of a case.

        Raises:
            As ``lease``.
        """
        with self.leases.lock:
            row = self._free_row(case_id, who)
            self.leases.release(row.case_id)
        return self.row(row.case_id)

    def wants_two(self, case_id: str) -> bool:
        """Return whether the case is for two readers."""
        drawn = hashlib.sha256(f"{self._seed}/{case_id}".encode()).digest()[:4]
        return int.from_bytes(drawn, "big") < self._double_share * 2**32

    def _free_row(self, case_id: str, who: str) -> Row:
        row = self.row(case_id)
        if row.until is not None and row.editor != who:
            raise Conflict(f"Case {row.case_id} is {row.described}.")
        return row

    def _row(self, case_id: str, history: Sequence[Revision], lease: Lease | None) -> Row:
        final, original = (_newest(history, tag) for tag in (FINAL, ORIGINAL))
        lease = lease if lease is not None and self.leases.is_current(lease) else None
        state = NEW if original is None else PRE_ANNOTATED
        if final is not None:
            state = ACCEPTED if ACCEPTED_FROM in final.record else CORRECTED
        if lease is not None:
            state = EDITED
        suggested = {} if original is None else original.record
        return Row(
            case_id,
            state,
            **prediction_of(suggested),
            volumes_ml=(final or original).record.get("volumes_ml", {}) if final or original else {},
            version=original.number if original else None,
            model_version=suggested.get("model_version", ""),
            editor=lease.client_id if lease else "",
            until=lease.until if lease else None,
            readers=tuple(final_by_reader(history)),
            readers_wanted=2 if self.wants_two(case_id) else 1,
        )


def final_by_reader(history: Iterable[Revision]) -> dict[str, Revision]:
    """Return the newest final label of each user since the last removal, in order of their first label."""
    found: dict[str, Revision] = {}
    for revision in history:
        if revision.tag == FINAL:
            who = str(revision.record.get("drawn_by") or revision.record.get("who") or "unknown")
            found = {} if revision.removed else {**found, who: revision}
    return found


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Return how many cases are reviewed, and the expected quality of the rest, to decide when to stop.

    Returns:
        ``total``, ``states`` (number of cases in each), ``remaining`` (cases without a final label),
        ``without_prediction`` among these, ``expected_mean_dice`` of the others (None without any), and ``sentence``.
    """
    states: dict[str, int] = {}
    for row in rows:
        states[row.state] = states.get(row.state, 0) + 1
    rest = [row for row in rows if row.open and not row.readers]
    predicted = [row for row in rest if row.gain is not None]
    gains = [row.gain for row in predicted]
    expected, lacking = 1.0 - sum(gains) / len(gains) if gains else None, len(rest) - len(gains)
    sentence = "Every case has a label." if rows else "There are no cases."
    if rest:
        other = "other " if len(rest) < len(rows) else ""
        sentence = f"The {other}{len(rest)} cases have no prediction yet; POST /batch/infer/segmentation makes it."
    if gains:
        have = "case has" if len(gains) == 1 else "cases have"
        sentence = f"The {other}{len(gains)} {have} an expected mean Dice of {expected:.2f}"
        sentence += f"; {lacking} more {'has' if lacking == 1 else 'have'} no prediction." if lacking else "."
        if not all(row.quality_fitted for row in predicted):
            sentence += f" {NOT_FITTED}"
    counts = {"total": len(rows), "states": states, "remaining": len(rest), "without_prediction": lacking}
    return {**counts, "expected_mean_dice": expected, "sentence": sentence}


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%H:%M UTC")


def _newest(history: Iterable[Revision], tag: str) -> Revision | None:
    newest = None
    for revision in history:
        if revision.tag == tag:
            newest = None if revision.removed else revision
    return newest
