"""Errors name the location, what was found and what was expected, also across processes."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from brats_clip import errors
from brats_clip.errors import BratsClipError, CaseError, InputError, LabelError, ReportError, WeightsError

KINDS = (InputError, CaseError, LabelError, ReportError, WeightsError)


def fail(kind: type[InputError]) -> None:
    raise kind(Path("p1") / "p1_t2.nii.gz", "no file", "a NIfTI image")


@pytest.mark.parametrize("kind", KINDS)
def test_message_names_location_finding_and_expectation_in_one_line(kind):
    with pytest.raises(kind) as error:
        fail(kind)
    assert str(error.value) == "p1/p1_t2.nii.gz: found no file; expected a NIfTI image."


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_brats_clip_error_and_a_value_error(kind):
    assert issubclass(kind, BratsClipError) and issubclass(kind, ValueError)


def test_kinds_cover_every_public_error():
    public = {v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, BratsClipError)}
    assert public == {BratsClipError, *KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_pickling_keeps_kind_fields_and_message(kind):
    before = kind(Path("a.nii"), "b", "c")
    after = pickle.loads(pickle.dumps(before))
    assert type(after) is kind and str(after) == str(before)
    assert (after.where, after.found, after.expected) == ("a.nii", "b", "c")


def test_error_propagates_from_a_worker_process():
    with (
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool,
        pytest.raises(CaseError, match=r"p1_t2\.nii\.gz: found no file") as error,
    ):
        pool.submit(fail, CaseError).result()
    assert error.value.where.endswith("p1_t2.nii.gz")
