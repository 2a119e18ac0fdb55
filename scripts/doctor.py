#!/usr/bin/env python
"""Check whether the MONAI Label server will work on this machine, and say how to fix what prevents it.

python scripts/doctor.py --studies /data/cases --conf preprocess always

Exits with 0 if it will work (perhaps with warnings), with 1 if there is a problem.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "monailabel_app"))

from brats_label import doctor as machine
from brats_label.doctor import OK, PROBLEM, WARNING, Finding, counted, guarded, served

ROOT = Path(__file__).resolve().parents[1]
COLOURS = {OK: "green", WARNING: "yellow", PROBLEM: "bold red"}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", default="", help="folder of cases, or the address of a DICOMweb server")
    parser.add_argument("--conf", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="app setting")
    parser.add_argument("--port", type=int, help="port of the server (default: MONAI Label's)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # packages warn about each other
    findings = []
    for finding in examine(args.studies, dict(args.conf), args.port):
        findings.append(finding)
        if not args.json:
            show(finding)
    bad = sum(f.level == PROBLEM for f in findings)
    doubtful = sum(f.level == WARNING for f in findings)
    if args.json:
        print(json.dumps({"problems": bad, "warnings": doubtful, "findings": [asdict(f) for f in findings]}, indent=2))
    else:
        print(f"{counted(bad, 'problem')}, {counted(doubtful, 'warning')}.")
    return 1 if bad else 0


def examine(where: str, conf: dict[str, str], port: int | None) -> Iterator[Finding]:
    """Run all checks in turn; a failing check does not stop the others."""
    yield from guarded("Python", lambda: machine.python(ROOT))
    yield from guarded("packages", lambda: machine.packages(ROOT))
    yield from guarded("torchvision", machine.torch_fits_torchvision)
    yield from guarded("server", lambda: examine_server(where, conf, port))
    yield from guarded("threads", machine.threads)
    yield from guarded("itkimage2segimage", machine.dicom_seg_program)
    yield from guarded("Orthanc", machine.orthanc)
    yield from guarded("Chromium", machine.browser)


def examine_server(where: str, conf: dict[str, str], port: int | None) -> Iterator[Finding]:
    """Run the checks that depend on settings and studies."""
    from brats_clip.errors import InputError
    from brats_label.settings import Settings

    try:
        settings = Settings.read(conf)
    except InputError as error:
        yield Finding("settings", PROBLEM, str(error), "correct --conf; the other checks use the defaults")
        settings = Settings()
    workspace = None
    if where:
        found, workspace = served.look(where, settings)
        yield from found
    else:
        yield Finding("studies", OK, "not given; add --studies to check them, too (make doctor STUDIES=...)")
    bundle = Path(settings.bundle) if settings.bundle else ROOT / "bundle"
    checkpoint = Path(settings.checkpoint or bundle / "models" / "model.pt")
    yield from guarded("weights", lambda: served.weights(bundle, checkpoint, workspace))
    yield from guarded("CLIP", lambda: served.clip(bundle))
    yield from guarded("device", lambda: machine.device(settings.device))
    folders = {"labels and weights": workspace.root, "the cache": workspace.cache} if workspace else {}
    yield from guarded("disk", lambda: machine.room(folders, settings.max_upload_mb * 2**20))
    yield from guarded("access", lambda: served.access(settings))
    yield from guarded("port", lambda: machine.port(port or usual_port()))


def usual_port() -> int:
    """Return the port of MONAI Label's own settings."""
    from monailabel.config import settings as server

    return server.MONAI_LABEL_SERVER_PORT


def show(finding: Finding) -> None:
    """Print a finding on one line, and its remedy below it."""
    try:
        from rich.console import Console
        from rich.markup import escape
    except ImportError:  # the doctor must work without any package
        print(f"{finding.level:8} {finding.check}: {finding.says}")
        if finding.remedy and finding.level != OK:
            print(f"{'':8} -> {finding.remedy}")
        return
    console = Console(soft_wrap=True, highlight=False)
    colour = COLOURS[finding.level]
    console.print(f"[{colour}]{finding.level:8}[/] {escape(finding.check)}: {escape(finding.says)}")
    if finding.remedy and finding.level != OK:
        console.print(f"{'':8} -> {escape(finding.remedy)}")


if __name__ == "__main__":
    raise SystemExit(main())
