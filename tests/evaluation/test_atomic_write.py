from __future__ import annotations

import pytest

from brats_clip.evaluation import write_metrics_csv
from brats_clip.images import atomic_write


def test_file_appears_only_when_complete(tmp_path):
    path = tmp_path / "new" / "file.nii.gz"
    with atomic_write(path) as temporary:
        assert temporary.parent == path.parent and temporary.name.endswith("file.nii.gz")
        temporary.write_text("all")
        assert not path.exists()
    assert [p.name for p in path.parent.iterdir()] == ["file.nii.gz"]
    assert path.read_text() == "all"


def test_failed_write_keeps_the_previous_file(tmp_path):
    path = tmp_path / "file.txt"
    for before in (None, "old"):
        if before is not None:
            path.write_text(before)
        with pytest.raises(RuntimeError), atomic_write(path) as temporary:
            temporary.write_text("ha")
            raise RuntimeError
        assert [p.read_text() for p in tmp_path.iterdir()] == ([] if before is None else ["old"])


def test_failed_csv_write_leaves_no_file(tmp_path):
    class Unprintable:
        def __str__(self):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_metrics_csv([{"case": "a"}, {"case": Unprintable()}], tmp_path / "metrics.csv")
    assert list(tmp_path.iterdir()) == []
