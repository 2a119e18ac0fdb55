"""A local DICOMweb server, Orthanc, for the demo and the tests; other machines cannot reach it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import requests
from pydicom import dcmread

from ..dicom.client import as_unreachable, connect

PLUGINS = ("/usr/share/orthanc/plugins", "/usr/lib/orthanc", "/usr/local/share/orthanc/plugins")
INSTALL = "sudo apt install orthanc orthanc-dicomweb"
START_S, STOP_S = 60.0, 10.0
AT_ONCE = 50  # instances per upload


class OrthancMissing(RuntimeError):
    """Orthanc or its DICOMweb plugin is not installed; the message says how to install it."""


def find_orthanc() -> tuple[Path, Path]:
    """Return the paths of the Orthanc program and of its DICOMweb plugin.

    Raises:
        OrthancMissing: if either is missing.
    """
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise OrthancMissing(f"Orthanc is not installed; {INSTALL}")
    libraries = [p for folder in PLUGINS for p in sorted(Path(folder).glob("libOrthancDicomWeb.so*"))]
    if not libraries:
        raise OrthancMissing(f"Orthanc's DICOMweb plugin is not installed; {INSTALL}")
    return Path(program), libraries[0]


def free_port() -> int:
    """Return a free port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class LocalOrthanc:
    """``with LocalOrthanc(folder) as server:`` starts Orthanc and stops it; stored data stays in the folder.

    Args:
        folder: for configuration, log and storage.
        port: on 127.0.0.1; a free one if 0.
        users: passwords by user name; without users, everybody on this machine may read and write.

    Raises:
        OrthancMissing: on entry, if it is not installed.
        RuntimeError: on entry, if it does not start; the message names the log.
    """

    def __init__(self, folder: Path, port: int = 0, users: Mapping[str, str] | None = None) -> None:
        self.folder, self.port, self.users = Path(folder).absolute(), port, dict(users or {})
        self._process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        """URL of the DICOMweb service."""
        return f"http://127.0.0.1:{self.port}/dicom-web"

    @property
    def log(self) -> Path:
        """Orthanc's log file."""
        return self.folder / "orthanc.log"

    def __enter__(self) -> LocalOrthanc:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start Orthanc and wait until it answers."""
        program, plugin = find_orthanc()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        configuration = self.folder / "orthanc.json"
        configuration.write_text(json.dumps(self._configuration(plugin), indent=2))
        with self.log.open("ab") as log:
            # In a new session Ctrl-C does not reach Orthanc, which must stop after the programs that use it.
            self._process = subprocess.Popen(
                [str(program), str(configuration)], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop Orthanc, giving it time to close its database."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def upload(self, files: Iterable[Path]) -> int:
        """Store DICOM files by STOW-RS; return their number.

        Raises:
            Unreachable: if the server does not accept them.
        """
        client, files = connect(self.url), list(files)
        for start in range(0, len(files), AT_ONCE):
            with as_unreachable(self.url):
                client.store_instances([dcmread(path) for path in files[start : start + AT_ONCE]])
        return len(files)

    def _configuration(self, plugin: Path) -> dict:
        return {
            "Name": "brats-clip",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "HttpPort": self.port,
            # Orthanc before 1.12.10 listens on all addresses, and refuses requests from other machines.
            "HttpBindAddresses": ["127.0.0.1"],
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": bool(self.users),
            "RegisteredUsers": self.users,
            "DicomServerEnabled": False,
            "OverwriteInstances": True,
            "StableAge": 1,
            "Plugins": [str(plugin)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
        }

    def _wait(self) -> None:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise RuntimeError(f"Orthanc ended with status {self._process.returncode}; its log is {self.log}")
            with suppress(requests.RequestException):
                # 401 (unauthorised) is an answer, too.
                if requests.get(f"{self.url}/studies", params={"limit": 1}, timeout=2).status_code in (200, 401):
                    return
            time.sleep(0.1)
        raise RuntimeError(f"Orthanc did not answer within {START_S:.0f} s; its log is {self.log}")
