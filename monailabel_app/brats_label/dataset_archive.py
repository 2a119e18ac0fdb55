"""The labelled cases as one ZIP file, in the layout of BraTS."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from brats_clip.cases import SEQUENCES

_KEPT_S = 3600  # an archive this old has been downloaded


def write_archive(folder: Path, entries: Iterable[Mapping[str, Any]], records: Mapping[str, Any]) -> Path:
    """Write ``CASE/CASE_t1.nii.gz``, ..., ``CASE_seg.nii.gz``, ``CASE_report.txt`` and ``metadata.json``.

    Args:
        folder: where the archive goes; those older than an hour are deleted.
        entries: of a datalist.
        records: by case, what is known about its label.

    Returns:
        The ZIP file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.zip"):
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > _KEPT_S:
                old.unlink()
    path = folder / f"dataset-{uuid4().hex[:12]}.zip"
    try:
        with zipfile.ZipFile(path, "x") as archive:  # the images are packed already
            for entry in entries:
                case = entry["case"]
                files = {sequence: entry[sequence] for sequence in SEQUENCES if entry.get(sequence)}
                for role, file in {**files, "seg": entry["label"]}.items():
                    ending = ".nii.gz" if str(file).endswith(".gz") else ".nii"
                    archive.write(file, f"{case}/{case}_{role}{ending}")
                if entry.get("report"):
                    archive.writestr(f"{case}/{case}_report.txt", entry["report"].strip())
            archive.writestr("metadata.json", json.dumps(records, indent=2, ensure_ascii=False))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path
