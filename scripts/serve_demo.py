#!/usr/bin/env python
"""Start a local DICOM server with synthetic patients, and the MONAI Label server on top; no other data is needed.

python scripts/serve_demo.py --work runs/serve_demo --count 4 --raw 1

Stop it with Ctrl-C; annotations stay in the work folder and are used at the next start.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "monailabel_app"))

if TYPE_CHECKING:  # slow imports are deferred, so that --help is fast
    from brats_label.demo.orthanc import LocalOrthanc

ROOT = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"
START_S, STOP_S = 300.0, 20.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, default=Path("runs/serve_demo"), help="folder for all data (default: %(default)s)"
    )
    parser.add_argument("--count", type=int, default=4, help="skull-stripped, aligned patients (default: %(default)s)")
    parser.add_argument("--raw", type=int, default=1, help="more patients, as raw exams (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal patients (default: %(default)s)")
    parser.add_argument("--size", type=int, nargs=3, default=(240, 240, 155), help="voxels (default: 240 240 155)")
    parser.add_argument("--spacing", type=float, nargs=3, default=(1.0, 1.0, 1.0), help="mm (default: 1 1 1)")
    parser.add_argument("--port", type=int, default=8000, help="port of the MONAI Label server (default: %(default)s)")
    parser.add_argument("--orthanc_port", type=int, default=0, help="port of the DICOM server (default: a free one)")
    parser.add_argument("--conf", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="app setting")
    args = parser.parse_args()
    if (
        args.count < 1
        or min(args.seed, args.raw) < 0
        or min(args.size) < 16
        or not all(0 < s < float("inf") for s in args.spacing)
    ):
        parser.error(
            "--count must be at least 1, --seed and --raw at least 0, --size at least 16 voxels, --spacing above 0 mm"
        )
    from brats_label.demo.orthanc import OrthancMissing, find_orthanc

    # Both servers must stop with this process. A shell that starts it in the background makes it ignore Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        find_orthanc()
        if is_taken(args.port):
            raise OrthancMissing(f"port {args.port} is in use; stop what listens there, or choose another with --port")
        return serve(args)
    except OrthancMissing as missing:
        print(f"serve_demo: {missing}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped.")
        return 0


def serve(args: argparse.Namespace) -> int:
    """Start both servers and wait for Ctrl-C; return the exit status."""
    from brats_label.demo.orthanc import LocalOrthanc

    work = args.work.absolute()
    with LocalOrthanc(work / "orthanc", port=port_of(work, args.orthanc_port)) as orthanc:
        say(f"DICOM server: {orthanc.url}")
        studies = [add_patient(orthanc, work, args, index) for index in range(args.count + args.raw)]
        with label_server(orthanc.url, work, args) as server:
            wait_for(server, f"http://{HOST}:{args.port}/info/", work / "server.log")
            say("Open one of these in a browser. When the images are there, press the round arrow in the panel on the")
            say("right (it is empty until then), then Run below 'Auto-Segmentation':")
            for study in studies:
                say(f"  http://{HOST}:{args.port}/ohif/monai-label?StudyInstanceUIDs={study}")
            say("Ctrl-C stops both servers.")
            status = server.wait()
            say(f"The MONAI Label server ended with status {status}; its log is {work / 'server.log'}")
            return status or 1


def add_patient(orthanc: LocalOrthanc, work: Path, args: argparse.Namespace, index: int) -> str:
    """Draw a patient and store the study unless it is stored; return its StudyInstanceUID. The last are raw."""
    import torch

    from brats_clip.phantoms import draw_phantom, draw_raw_phantom
    from brats_label.demo.phantom_study import Extras, write_study

    grid = f"{'x'.join(map(str, args.size))}@{'x'.join(f'{s:g}' for s in args.spacing)}"
    raw = index >= args.count
    number = index - args.count if raw else index
    name, seed = f"{'RAW' if raw else 'PHANTOM'}_{args.seed}_{number:05d}", f"{args.seed}/{'raw' if raw else grid}"
    noted = work / "studies" / f"{name}.json"
    known = json.loads(noted.read_text()) if noted.is_file() else {}
    if known.get("seed") == seed and instances(orthanc, known["study"]) >= known["instances"]:
        say(f"Patient {index + 1} of {args.count + args.raw}: there already")
        return known["study"]
    say(f"Patient {index + 1} of {args.count + args.raw}: drawing{', raw' if raw else ''}")
    torch.set_num_threads(1)
    phantom = (draw_raw_phantom if raw else draw_phantom)((args.seed, number))
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as temporary:
        extras = Extras(localiser=True)
        study = write_study(phantom, Path(temporary), name, extras, seed, args.size, args.spacing)
        count = orthanc.upload(study.files())
    noted.parent.mkdir(exist_ok=True)
    noted.write_text(json.dumps({"seed": seed, "study": study.study_uid, "instances": count}))
    return study.study_uid


def instances(orthanc: LocalOrthanc, study: str) -> int:
    """Return the number of instances of a study on the server."""
    from brats_label.dicom.client import connect

    found = connect(orthanc.url).search_for_studies(
        search_filters={"StudyInstanceUID": study}, fields=["NumberOfStudyRelatedInstances"]
    )
    return int(found[0]["00201208"]["Value"][0]) if found else 0


@contextmanager
def label_server(url: str, work: Path, args: argparse.Namespace) -> Iterator[subprocess.Popen]:
    """Run the MONAI Label server as a child process; stop it when the block ends."""
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(ROOT / "monailabel_app")]
    command += ["--studies", url, "--host", HOST, "--port", str(args.port)]
    for name, value in [("workspace", str(work / "workspace")), *args.conf]:
        command += ["--conf", name, value]
    environment = dict(os.environ)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"  # dcmqi's programs
    environment["MONAI_LABEL_DICOMWEB_SEARCH_FILTER"] = '{"Modality": "MR"}'
    environment.setdefault("MONAI_LABEL_DICOMWEB_READ_TIMEOUT", "60")
    environment.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    say(f"Starting the MONAI Label server; its log is {work / 'server.log'}")
    with (work / "server.log").open("ab") as log:
        # In its own session, so that Ctrl-C reaches only this process, which stops it before the DICOM server.
        server = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield server
    finally:
        stop(server)


def stop(server: subprocess.Popen) -> None:
    """Stop the server and its child processes."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def wait_for(server: subprocess.Popen, address: str, log: Path) -> None:
    """Wait until ``address`` answers.

    Raises:
        SystemExit: with the end of the log if the server ends or does not answer.
    """
    import requests

    until = time.monotonic() + START_S
    while time.monotonic() < until and server.poll() is None:
        with suppress(requests.RequestException):
            if requests.get(address, timeout=10).ok:
                return
        time.sleep(0.5)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise SystemExit(f"serve_demo: the MONAI Label server did not start; the end of {log}:\n{tail}")


def port_of(work: Path, wanted: int) -> int:
    """Return the port for the DICOM server: the wanted one, else the previous one if it is free, else 0 for a free one.

    The app stores its results under the address of the DICOM server, so the address should not change.
    """
    noted = work / "orthanc" / "orthanc.json"
    if not wanted and noted.is_file():
        with suppress(ValueError, KeyError):
            last = int(json.loads(noted.read_text())["HttpPort"])
            wanted = 0 if is_taken(last) else last
    return wanted


def is_taken(port: int) -> bool:
    """Return whether a process listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
