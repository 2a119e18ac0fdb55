"""Identify series by their images where headers are not enough, and cache the answers."""

from __future__ import annotations

import json

from brats_clip.cases.sequence_by_image import on_small_grid, sequences_by_image

from ...durable import durable_write
from .series_choice import Question
from .study_record import FetchedSeries, StudyRecord


def answer_by_images(record: StudyRecord, series: FetchedSeries) -> StudyRecord:
    """Return the study with its questions answered by its images, which are fetched once, and again if they change.

    Args:
        record: with ``choice.questions``.
        series: fetches the images; its cache also stores the answers.

    Raises:
        Unreachable: if the server does not answer.
    """
    answers: dict[str, str] = {}
    for question in record.choice.questions:
        # In its own folder: trimming the cache treats a folder with files, and everything below it, as one unit.
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
    return refused | sequences_by_image(on_small_grid(files), question.sequences)
