"""Settle by what the images show which series is which, where headers are silent; the answers are kept."""

from __future__ import annotations

import json

from brats_clip.cases.tell_by_image import on_small_grid, tell_by_image

from ...durable import durable_write
from .series_choice import Question
from .study_record import FetchedSeries, StudyRecord


def settled(record: StudyRecord, series: FetchedSeries) -> StudyRecord:
    """The study with a choice that its images have settled. They are fetched the first time, and when they have grown.

    Args:
        record: with ``choice.questions``.
        series: fetches the images; answers lie in its cache.

    Raises:
        Unreachable: if the server does not answer.
    """
    answers: dict[str, str] = {}
    for question in record.choice.questions:
        # In a folder of its own: what trims the cache takes a folder with files, and all below it, as one.
        kept = series.cache / record.uid / "answers" / f"{'-'.join(question.sequences)}.json"
        asked = {uid: record.counts[uid] for uid in question.uids}
        old = json.loads(kept.read_text()) if kept.is_file() else {}
        if old.get("asked") != asked:
            old = {"asked": asked, "answers": _tell(record, question, series)}
            with durable_write(kept) as draft:
                draft.write_text(json.dumps(old, indent=2))
        answers |= old["answers"]
    return record.answered(answers)


def _tell(record: StudyRecord, question: Question, series: FetchedSeries) -> dict[str, str]:
    names = {uid: record.headers[uid].name for uid in question.uids}
    files = series.nifti_files(record, names, skip_refused=True)
    refused = {uid: "" for uid in question.uids if uid not in files}
    return refused | tell_by_image(on_small_grid(files), question.sequences)
