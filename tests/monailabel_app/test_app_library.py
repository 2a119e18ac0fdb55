"""The case library: cases are aligned once, and the size of the disk cache is limited."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from app_folders import as_brats, as_four_d, tiny_image

from brats_label.durable import atomic_folder, trim
from brats_label.errors import NotFound
from brats_label.settings import Settings
from brats_label.studies import library as module
from brats_label.studies.folder import FolderSource
from brats_label.studies.library import CaseLibrary


@pytest.fixture
def library(tiny_data_set, tmp_path) -> CaseLibrary:
    """Two cases: one with a FLAIR of 8 mm slices, one in a 4D file."""
    studies = tmp_path / "studies"
    phantom = tiny_data_set.folder / tiny_data_set.cases[0]
    flair = as_brats(phantom, studies, "THICK") / "THICK_flair.nii.gz"
    image = nib.load(flair)
    nib.save(image.slicer[:, :, ::2], flair)
    as_four_d(phantom, studies / "FOUR.nii.gz")
    cache = tmp_path / "cache"
    return CaseLibrary(FolderSource(studies, Settings(), cache), cache)


def age(cache: Path, seconds: float) -> None:
    for path in cache.rglob("*"):
        if path.is_dir():
            os.utime(path, (time.time() - seconds,) * 2)


def test_concurrent_threads_align_a_case_once(library, monkeypatch):
    calls = []
    align = module.align

    def counted(*args):
        calls.append(args)
        return align(*args)

    monkeypatch.setattr(module, "align", counted)
    case = library.case("THICK@t1")
    start = threading.Barrier(4)

    def ask(_) -> object:
        start.wait()
        return library.aligned(case)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(4)))
    assert len(calls) == 1
    assert all(answer is answers[0] for answer in answers)


def test_a_changed_file_is_aligned_again(library):
    case = library.case("THICK")
    first = library.aligned(case)
    native = library.image_file("THICK@flair")
    nib.save(nib.load(native).slicer[:, :, ::2], native)
    again = library.aligned(case)
    assert again.files["flair"] != first.files["flair"]
    assert again.grids["flair"].spacing[2] == 16


def test_an_image_id_leads_to_the_native_file(library):
    assert library.image_file("THICK@flair").name == "THICK_flair.nii.gz"
    assert library.image_file("THICK").name == "THICK_t1ce.nii.gz"
    assert nib.load(library.image_file("THICK@flair")).shape == (48, 60, 24)
    assert library.image_file("FOUR@t2").name == "FOUR_t2.nii.gz"
    with pytest.raises(NotFound):
        library.image_file("NOBODY")


def test_case_is_aligned_again_after_its_files_were_trimmed(library, tmp_path):
    case = library.case("THICK")
    first = library.aligned(case)
    age(tmp_path / "cache", 3600)
    library.trim(0)
    assert not first.files["flair"].exists()
    again = library.aligned(case)
    np.testing.assert_array_equal(nib.load(again.files["flair"]).shape, (48, 60, 48))


def test_trimming_removes_the_least_recently_used_files(library, tmp_path):
    thick = library.aligned(library.case("THICK")).files["flair"]
    four = library.image_file("FOUR")
    age(tmp_path / "cache", 3600)
    os.utime(four.parent, (time.time() - 7200,) * 2)
    size = sum(path.stat().st_size for path in thick.parent.iterdir())
    assert library.trim(10**9) > size
    assert library.trim(size) == size
    assert thick.exists()
    assert not four.exists()


def test_recently_used_files_are_not_trimmed(library, tmp_path):
    four = library.image_file("FOUR")
    age(tmp_path / "cache", 3600)
    library.image_file("FOUR@t1")
    library.trim(0)
    assert four.exists()


def test_temporary_folders_of_killed_processes_are_removed(tmp_path):
    draft = tmp_path / "four_d" / ".tmp-dead"
    tiny_image(draft / "x.nii.gz")
    trim(tmp_path, 10**9)
    assert draft.exists()
    age(tmp_path, 7200)
    trim(tmp_path, 10**9)
    assert not draft.exists()


def test_whole_folder_is_written_atomically(tmp_path):
    target = tmp_path / "entry"
    with pytest.raises(ZeroDivisionError), atomic_folder(target) as draft:
        (draft / "half").write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(target) as draft:
        (draft / "a").write_text("first")
        with atomic_folder(target) as faster:
            (faster / "a").write_text("faster")
    assert (target / "a").read_text() == "faster"
    assert list(tmp_path.iterdir()) == [target]


def test_fingerprint_is_unchanged_by_trimming(library, tmp_path):
    for name in ("FOUR", "THICK"):
        case = library.case(name)
        first = library.fingerprint(case)
        assert not (tmp_path / "cache").exists() or name == "THICK"  # computing it splits no file
        library.aligned(case)
        age(tmp_path / "cache", 3600)
        library.trim(0)
        library.aligned(case)
        assert library.fingerprint(case) == first


def test_fingerprint_changes_with_image_report_and_reference(library, tmp_path):
    case = library.case("THICK")
    folder = tmp_path / "studies" / "THICK"
    seen = [library.fingerprint(case), library.fingerprint(replace(case, reference="flair"))]
    os.utime(folder / "THICK_t1.nii.gz", ns=(1, 1))
    seen.append(library.fingerprint(case))
    (folder / "THICK_report.txt").write_text("Another report.")
    seen.append(library.fingerprint(case))
    assert len(set(seen)) == 4
    (folder / "THICK_t1.nii.gz").unlink()
    with pytest.raises((NotFound, OSError)):
        library.fingerprint(case)
