#!/usr/bin/env python
"""Serve a folder of cases to 3D Slicer, or a DICOMweb server to OHIF and 3D Slicer.

python scripts/serve.py --studies /data/cases --conf preprocess always

Equivalent to ``python -m monailabel.main start_server --app monailabel_app ...``, whose other options it also accepts.
A problem that prevents the server from starting is reported at once, in one sentence.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bundle"), str(ROOT / "monailabel_app")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", required=True, help="folder of cases, or the address of a DICOMweb server")
    parser.add_argument("--conf", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="app setting")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    args, others = parser.parse_known_args()
    problem = startup_problem(args)
    if problem:
        print(f"serve: {problem}", file=sys.stderr)
        return 2
    from monailabel.main import Main

    logging.getLogger("monailabel.main").setLevel(logging.WARNING)  # else it logs one line per option
    sys.argv = ["monailabel", "start_server", "--app", str(ROOT / "monailabel_app"), "--studies", args.studies]
    sys.argv += ["--host", args.host, "--port", str(args.port), *others]
    for name, value in args.conf:
        sys.argv += ["--conf", name, value]
    Main().run()
    return 0


def startup_problem(args: argparse.Namespace) -> str:
    """Return what prevents the server from starting, and how to fix it; "" if nothing does."""
    from brats_label import doctor

    folder = Path(args.studies)
    if not args.studies.startswith(("http://", "https://")) and not folder.is_dir():
        found = "a file" if folder.exists() else "no such folder"
        return f"{args.studies}: found {found}; expected a folder of cases, or the address of a DICOMweb server."
    port = next(doctor.port(args.port, args.host))
    if port.level != doctor.OK:
        return f"port {port.says}; {port.remedy}."
    from brats_clip.errors import InputError
    from brats_label.settings import Settings

    try:
        Settings.read(dict(args.conf))
    except InputError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    raise SystemExit(main())
