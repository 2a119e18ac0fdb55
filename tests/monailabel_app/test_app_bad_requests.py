"""Every bad request gets a 4xx status with a helpful message, and the server keeps running."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import socket
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pytest
import requests
from app_folders import copy_cases
from app_server import RunningServer

from brats_clip.cases import SEQUENCES

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
CASE = "PHANTOM_0"


@pytest.fixture(scope="module")
def server(tiny_data_set, tmp_path_factory):
    """Three cases, one of them without FLAIR; small limits."""
    studies = tmp_path_factory.mktemp("studies")
    copy_cases(tiny_data_set, studies)
    (studies / "PHANTOM_2" / "PHANTOM_2_flair.nii.gz").unlink()
    (studies / "secret.txt").write_text("not for clients")
    conf = {"max_upload_mb": 2, "max_unpacked_mb": 1, "max_sessions": 3, "max_report_chars": 20_000}
    with RunningServer(studies, tmp_path_factory.mktemp("server"), conf) as server:
        yield server


class Bad(NamedTuple):
    """A request, its expected status, and words that the message must contain."""

    name: str
    method: str
    path: str
    status: int
    says: tuple[str, ...]
    params: dict | str | None = None
    files: Callable[[Path], dict] | None = None
    body: bytes | None = None


def file(name: str, content: bytes, field: str = "label") -> Callable[[Path], dict]:
    return lambda _: {field: (name, content)}


def label(shape=(48, 60, 48), shift=0.0, values=(1,), dtype=np.uint8, name="label.nii.gz") -> Callable[[Path], dict]:
    """Return a builder of a label on the grid of the phantoms, with the given faults."""

    def build(image: Path) -> dict:
        affine = nib.load(image).affine.copy()
        affine[0, 3] += shift
        array = np.zeros(shape, dtype)
        for number, value in enumerate(values):
            array[20 + number, 20, 20] = value
        return {"label": (name, gzip.compress(nib.Nifti1Image(array, affine).to_bytes()))}

    return build


def truncated(image: Path) -> dict:
    return {"label": ("label.nii.gz", label()(image)["label"][1][:200])}


def archive(climbs: bool) -> bytes:
    """Return a tar archive with a file outside of its folder, or a zip that unpacks to 8 MiB."""
    stream = io.BytesIO()
    if climbs:
        with tarfile.open(fileobj=stream, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("../../../../../../../../../tmp/brats_clip_climbed"))
    else:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("x_t1.nii.gz", bytes(8 * 2**20))
    return stream.getvalue()


NOTHING = {f"use_{sequence}": False for sequence in SEQUENCES}
HTML = b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"
INFER, DEEP, SAVE = "/infer/segmentation", "/infer/deepedit", "/datastore/label"
NEXT, BATCH = "/activelearning/random", "/batch/infer/segmentation"
UNPACK = "/session/?uncompress=true"
BAD: tuple[Bad, ...] = (
    # images, models and routes
    Bad("no image", "POST", INFER, 400, ("image",)),
    Bad("unknown image", "POST", f"{INFER}?image=PHANTOM_9", 404, ("PHANTOM_9", CASE)),
    Bad("unknown sequence", "POST", f"{INFER}?image={CASE}@t3", 404, ("t3",)),
    Bad("unknown model", "POST", f"/infer/liver?image={CASE}", 404, ("liver", "segmentation")),
    Bad("a strategy there was", "POST", "/activelearning/region_entropy", 404, ("expected_gain, random",), body=b"{}"),
    Bad(
        "unknown strategy", "POST", "/activelearning/cleverest", 404, ("cleverest", "expected_gain, random"), body=b"{}"
    ),
    Bad("training without labels", "POST", "/train/segmentation", 422, ("label",), body=b"{}"),
    Bad("unknown trainer", "POST", "/train/liver", 404, ("liver",), body=b"{}"),
    Bad("unknown address", "GET", "/nothing/here", 404, ("/nothing/here",)),
    Bad("wrong method", "PATCH", "/info/", 405, ("PATCH",)),
    Bad("unknown output", "POST", f"{INFER}?image={CASE}&output=video", 422, ("output",)),
    Bad("unknown version of the weights", "POST", "/model/versions/99/use", 404, ("99",)),
    Bad("version that is no number", "POST", "/model/versions/best/use", 422, ("number",)),
    Bad("deleting the weights", "DELETE", "/model/segmentation", 405, ("use",)),
    Bad("status of a training there is none of", "GET", "/train/?check_if_running=true", 404, ("running",)),
    # paths
    Bad("path traversal in an id", "POST", f"{INFER}?image=../../etc/passwd", 404, ("case",)),
    Bad("path as an id", "GET", "/datastore/image?image=/etc/passwd", 404, ("case",)),
    Bad("encoded traversal", "GET", "/datastore/image?image=..%2Fsecret.txt", 404, ("case",)),
    Bad("NUL in an id", "GET", "/datastore/image?image=a%00b", 404, ("case",)),
    Bad("traversal in a label's id", "GET", "/datastore/label?label=../secret&tag=final", 404, ("case",)),
    Bad("traversal in a tag", "GET", f"/datastore/label?label={CASE}&tag=../..", 422, ("tag",)),
    Bad("traversal in a session", "DELETE", "/session/..%2F..%2Fstudies", 404, ("session",)),
    Bad("session that is none", "GET", "/session/0", 404, ("session",)),
    Bad("inference in no session", "POST", f"{INFER}?session_id=0", 404, ("session",)),
    Bad("session of no file", "PUT", "/session/", 422, ("files",)),
    Bad("tar that climbs", "PUT", f"{UNPACK}", 422, ("outside",), files=file("a.tar", archive(True), "files")),
    Bad("zip that swells", "PUT", f"{UNPACK}", 413, ("1 MiB",), files=file("a.zip", archive(False), "files")),
    Bad("session from a RAR", "PUT", f"{UNPACK}", 422, ("zip or tar",), files=file("a.rar", b"Rar!" * 99, "files")),
    Bad("a DICOMweb server that is none", "GET", "/proxy/dicom/studies", 404, ("DICOMweb",)),
    Bad("DICOM SEG of files", "POST", f"{INFER}?image={CASE}&output=dicom_seg", 422, ("DICOM",)),
    # parameters
    Bad("malformed JSON", "POST", f"{INFER}?image={CASE}", 400, ("JSON",), params="{'report': 1"),
    Bad("JSON that is no object", "POST", f"{INFER}?image={CASE}", 400, ("object",), params="[1, 2]"),
    Bad("malformed body", "POST", "/activelearning/random", 422, ("JSON",), body=b"{strategy"),
    Bad("report that is no text", "POST", f"{INFER}?image={CASE}", 400, ("report",), {"report": 5}),
    Bad("oversized report", "POST", f"{INFER}?image={CASE}", 413, ("report", "20000"), {"report": "glioma " * 5000}),
    Bad("switch that is none", "POST", f"{INFER}?image={CASE}", 400, ("use_report",), {"use_report": "perhaps"}),
    Bad("unknown output region", "POST", f"{INFER}?image={CASE}", 400, ("output", "WT"), {"output": "liver"}),
    Bad("unknown extension", "POST", f"{INFER}?image={CASE}", 400, (".nrrd",), {"result_extension": ".exe"}),
    Bad("no sequence to use", "POST", f"{INFER}?image={CASE}", 422, ("t1",), NOTHING),
    Bad("missing sequence", "POST", f"{INFER}?image=PHANTOM_2", 422, ("flair", "allow_missing")),
    Bad("click that is no point", "POST", f"{DEEP}?image={CASE}", 400, ("ET",), {"ET": [[1, 2]]}),
    Bad("click that is no list", "POST", f"{DEEP}?image={CASE}", 400, ("ET",), {"ET": 3}),
    Bad("click that is no number", "POST", f"{DEEP}?image={CASE}", 400, ("ET",), {"ET": [["a", 1, 2]]}),
    Bad("click outside", "POST", f"{DEEP}?image={CASE}", 422, ("outside",), {"ET": [[1, 2, 4000]]}),
    Bad("click beyond all", "POST", f"{DEEP}?image={CASE}", 400, ("ET",), '{"ET": [[1%s, 1, 2]]}' % ("0" * 400)),
    Bad("click at NaN", "POST", f"{DEEP}?image={CASE}", 400, ("ET",), '{"ET": [[NaN, 1, 2]]}'),
    Bad("report with half a character", "POST", f"{INFER}?image={CASE}", 400, ("Unicode",), '{"report": "\\ud800"}'),
    Bad("file named ..", "POST", INFER, 422, ("cases",), files=file("..", b"x" * 600, "file")),
    Bad("file with a long name", "POST", INFER, 422, ("cases",), files=file("a" * 300 + ".nii.gz", b"x", "file")),
    Bad("client of half a character", "POST", NEXT, 400, ("client_id",), body=b'{"client_id": "\\ud800"}'),
    Bad("too many clicks", "POST", f"{DEEP}?image={CASE}", 413, ("1000",), {"ET": [[1, 2, 3]] * 1001}),
    Bad("stroke of no kind", "POST", f"{DEEP}?image={CASE}", 400, ("strokes", "NCR/NET"), {"strokes": {"x": []}}),
    Bad("stroke of one number", "POST", f"{DEEP}?image={CASE}", 400, ("strokes",), {"strokes": {"ET": [[1]]}}),
    Bad("stroke outside", "POST", f"{DEEP}?image={CASE}", 422, ("48 x 60 x 48",), {"strokes": {"ET": [[[1, 2, 99]]]}}),
    Bad("stroke without end", "POST", f"{DEEP}?image={CASE}", 422, ("outside",), {"strokes": {"ET": [[[1, 2, 9e8]]]}}),
    Bad("too many corners", "POST", f"{DEEP}?image={CASE}", 413, ("1000",), {"strokes": {"ET": [[[1, 2, 3]] * 1001]}}),
    Bad("unknown region to keep", "POST", f"{DEEP}?image={CASE}", 400, ("WT, TC, ET",), {"keep": "NCR"}),
    Bad("nothing to keep", "POST", f"{DEEP}?image={CASE}", 422, ("keep", "first"), {"keep": "ET", "client_id": "new"}),
    Bad("unknown step", "POST", f"{DEEP}?image={CASE}", 400, ("add, undo, redo",), {"history": "back"}),
    Bad("nothing to undo", "POST", f"{DEEP}?image={CASE}", 409, ("undo",), {"history": "undo", "client_id": "new"}),
    # review
    Bad("acceptance of no case", "POST", "/review/PHANTOM_9/accept", 404, ("PHANTOM_9",)),
    Bad("acceptance of nothing", "POST", f"/review/{CASE}/accept", 404, ("pre-annotation", "/batch/infer")),
    Bad("acceptance of a wrong version", "POST", f"/review/{CASE}/accept?version=x", 422, ("version",)),
    Bad("thumbnail of nothing", "GET", f"/review/{CASE}/thumbnail.png", 404, ("no label",)),
    Bad("lease of no case", "POST", "/review/PHANTOM_9/lease", 404, ("PHANTOM_9",)),
    # batches, and unsupported scoring
    Bad("batch of an unknown model", "POST", "/batch/infer/liver", 404, ("liver", "segmentation"), body=b"{}"),
    Bad("batch of unknown images", "POST", f"{BATCH}?images=some", 404, ("unlabeled",), body=b"{}"),
    Bad("batch with one report", "POST", BATCH, 422, ("report", "many"), body=b'{"report": "glioma glioma"}'),
    Bad("batch of final labels", "POST", BATCH, 422, ("original",), body=b'{"label_tag": "final"}'),
    Bad("batch of a wrong option", "POST", BATCH, 400, ("use_t1",), body=b'{"use_t1": "perhaps"}'),
    Bad("batch of minus one", "POST", BATCH, 400, ("max_batch_size",), body=b'{"max_batch_size": -1}'),
    Bad("batch that is none", "GET", "/batch/infer?check_if_running=true", 404, ("running",)),
    Bad("scoring on request", "POST", "/scoring/nonsense", 404, ("GET /review/",), body=b"{}"),
    Bad("scoring of all", "POST", "/scoring/", 404, ("GET /review/",), body=b"{}"),
    # labels
    Bad("label without a file", "PUT", f"{SAVE}?image={CASE}", 422, ("label",)),
    Bad("label of no case", "PUT", f"{SAVE}?image=PHANTOM_9", 404, ("PHANTOM_9",), files=label()),
    Bad("HTML as a label", "PUT", f"{SAVE}?image={CASE}", 422, ("HTML",), files=file("label.nii.gz", HTML)),
    Bad("zero-byte label", "PUT", f"{SAVE}?image={CASE}", 422, ("empty",), files=file("label.nii.gz", b"")),
    Bad("truncated label", "PUT", f"{SAVE}?image={CASE}", 422, ("truncated",), files=truncated),
    Bad(
        "label of another shape", "PUT", f"{SAVE}?image={CASE}", 422, ("48 x 60 x 48",), files=label(shape=(24, 60, 48))
    ),
    Bad("label elsewhere", "PUT", f"{SAVE}?image={CASE}", 422, ("mm",), files=label(shift=37.0)),
    Bad("unknown label value", "PUT", f"{SAVE}?image={CASE}", 422, ("7",), files=label(values=(1, 7))),
    Bad(
        "fractional label", "PUT", f"{SAVE}?image={CASE}", 422, ("whole",), files=label(values=(0.5,), dtype=np.float32)
    ),
    Bad("empty label", "PUT", f"{SAVE}?image={CASE}", 422, ("empty",), files=label(values=())),
    Bad(
        "unknown name",
        "PUT",
        f"{SAVE}?image={CASE}",
        422,
        ("spleen",),
        {"label_info": [{"name": "spleen", "idx": 1}]},
        label(),
    ),
    Bad(
        "number of a name beyond all",
        "PUT",
        f"{SAVE}?image={CASE}",
        422,
        ("label_info",),
        '{"label_info": [{"name": "ET", "idx": 1e999}]}',
        label(),
    ),
    Bad(
        "label info that is no object",
        "PUT",
        f"/datastore/updatelabelinfo?label={CASE}&tag=final",
        400,
        ("object",),
        params="[1]",
    ),
    Bad("unknown tag", "PUT", f"{SAVE}?image={CASE}&tag=../x", 400, ("tag",), files=label()),
    Bad(
        "oversized upload", "PUT", f"{SAVE}?image={CASE}", 413, ("2 MiB",), files=file("label.nii.gz", bytes(3 * 2**20))
    ),
    # images and weights
    Bad(
        "image that is none", "PUT", "/datastore/image?image=NEW", 422, ("NIfTI",), files=file("x.nii.gz", HTML, "file")
    ),
    Bad(
        "image with a path as its name",
        "PUT",
        "/datastore/image?image=../../x",
        422,
        ("id",),
        files=file("x.nii.gz", HTML, "file"),
    ),
    Bad("removing an image", "DELETE", f"/datastore/image?id={CASE}", 422, ("removed",)),
    Bad("weights that are none", "PUT", "/model/segmentation", 422, ("weights",), files=file("model.pt", HTML, "file")),
    Bad("restoring no version", "POST", f"/datastore/label/restore?image={CASE}&version=9", 404, ("9",)),
)


def send(server, bad: Bad) -> requests.Response:
    image = Path(server.studies) / CASE / f"{CASE}_t1ce.nii.gz"
    url = server.url + bad.path
    if bad.body is not None:
        return requests.request(
            bad.method, url, data=bad.body, headers={"content-type": "application/json"}, timeout=60
        )
    params = bad.params if isinstance(bad.params, str) else json.dumps(bad.params or {})
    form = {"params": params} if bad.method in ("POST", "PUT") else None
    # Set the URL after preparing the request, since requests normalises "..".
    request = requests.Request(bad.method, server.url, data=form, files=bad.files(image) if bad.files else None)
    prepared = request.prepare()
    prepared.url = url
    with requests.Session() as session:
        return session.send(prepared, timeout=60)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_request_gets_the_expected_status_and_message(server, bad):
    response = send(server, bad)
    assert response.status_code == bad.status, response.text
    told = response.json()
    assert all(word.lower() in told["detail"].lower() for word in bad.says), told["detail"]
    assert told["request_id"] == response.headers["x-request-id"]
    assert "/tmp" not in told["detail"] and "Traceback" not in told["detail"]


def test_bad_requests_change_no_state(server):
    for bad in BAD:
        assert send(server, bad).status_code < 500, bad.name
    info = requests.get(f"{server.url}/info/", timeout=10).json()
    assert info["datastore"]["total"] == 3 and info["datastore"]["completed"] == 0
    answer = requests.post(f"{server.url}{INFER}", params={"image": CASE, "output": "json"}, timeout=60)
    assert answer.status_code == 200 and answer.json()["volumes_ml"]["WT"] > 0
    log = server.text()
    assert '"status": 5' not in log
    assert "glioma glioma" not in log  # no report text is logged


@pytest.mark.parametrize(
    ("headers", "status"), [({"Host": "rebind.evil.example"}, 421), ({"Origin": "http://evil.example"}, 403)]
)
def test_other_host_or_origin_gets_no_image(server, headers, status):
    url, query = f"{server.url}/datastore/image", {"image": CASE}
    response = requests.get(url, params=query, headers=headers, timeout=30)
    assert response.status_code == status and response.json()["request_id"] == response.headers["x-request-id"]
    assert "access-control-allow-origin" not in response.headers
    own = requests.get(url, params=query, headers={"Origin": server.url}, timeout=30)
    assert own.status_code == 200 and "access-control-allow-origin" not in own.headers


def test_note_with_invalid_unicode_is_refused(server):
    info = {"info": '{"note": "\\ud800"}'}
    response = requests.put(f"{server.url}/datastore/image/info?image={CASE}", data=info, timeout=30)
    assert response.status_code == 400 and "Unicode" in response.json()["detail"]
    assert requests.post(f"{server.url}{NEXT}", json={"client_id": "me"}, timeout=30).json()["id"]


def test_image_checksum_is_verified(server):
    image = (Path(server.studies) / CASE / f"{CASE}_t1ce.nii.gz").read_bytes()
    sums = {
        f"SHA256:{hashlib.sha256(image).hexdigest()}": 200,
        hashlib.sha256(image).hexdigest(): 200,
        f"MD5:{hashlib.md5(image).hexdigest()}": 200,
        "SHA256:0123": 404,
        "FOO:1": 400,
    }
    for check_sum, status in sums.items():
        query = {"image": CASE, "check_sum": check_sum}
        assert requests.head(f"{server.url}/datastore/image", params=query, timeout=30).status_code == status, check_sum
    assert requests.head(f"{server.url}/datastore/image", params={"image": CASE}, timeout=30).status_code == 200


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has nvidia-smi")
def test_gpu_status_is_not_found_without_a_gpu(server):
    response = requests.get(f"{server.url}/logs/gpu", timeout=30)
    assert response.status_code == 404 and "GPU" in response.json()["detail"]


def test_archive_with_path_traversal_writes_nothing(server):
    send(server, next(bad for bad in BAD if bad.name == "tar that climbs"))
    assert not Path("/tmp/brats_clip_climbed").exists()
    assert not list((server.folder / "sessions").glob("*"))


def test_sessions_have_safe_file_names_can_be_deleted_and_are_limited(server):
    url, names = f"{server.url}/session/", ("..", "a" * 300 + ".nii.gz", "../../x_t1.nii.gz")
    made = [requests.put(url, files={"files": (name, b"abc")}, timeout=30) for name in names]
    assert [response.status_code for response in made] == [200] * 3, made[0].text
    ids = [response.json()["session_id"] for response in made]
    images = [Path(response.json()["session_info"]["image"]) for response in made]
    assert all(image.read_bytes() == b"abc" for image in images)
    assert [image.parent for image in images] == [server.folder / "sessions" / number for number in ids]
    assert images[2].name == "x_t1.nii.gz"
    full = requests.put(url, files={"files": ("x.nii.gz", b"abc")}, timeout=30)
    assert full.status_code == 429 and "max_sessions" in full.json()["detail"]
    assert requests.get(url + ids[0], params={"image": "true"}, timeout=30).content == b"abc"
    for number in ids:
        assert requests.delete(url + number, timeout=30).json()["name"] == number
        assert requests.get(url + number, timeout=30).status_code == 404
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as packed:
        packed.writestr("case/x_t1.nii.gz", b"abc")
    made = requests.put(server.url + UNPACK, files={"files": ("case.zip", zipped.getvalue())}, timeout=30).json()
    assert (Path(made["session_info"]["image"]) / "case" / "x_t1.nii.gz").read_bytes() == b"abc"
    assert requests.get(url + made["session_id"], params={"image": "true"}, timeout=30).status_code == 422
    requests.delete(url + made["session_id"], timeout=30)


def test_aborted_upload_does_not_stop_the_server(server):
    with socket.create_connection(("127.0.0.1", server.port)) as broken:
        broken.sendall(
            b"PUT /datastore/label?image=PHANTOM_0 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc"
        )
    assert requests.get(f"{server.url}/info/", timeout=10).status_code == 200


def test_unreachable_dicomweb_server_is_reported(tmp_path):
    conf = {"workspace": tmp_path / "workspace"}
    with RunningServer("http://127.0.0.1:9/dicom-web", tmp_path, conf) as server:
        info = requests.get(f"{server.url}/info/", timeout=60).json()
        assert any("127.0.0.1" in problem for problem in info["datastore"]["problems"])
        for path in (
            "/review/",
            "/proxy/dicom/studies",
            "/datastore/image?image=1.2.3",
            "/datastore/image/info?image=1.2.3",
        ):
            response = requests.get(server.url + path, timeout=60)
            assert response.status_code == 424 and "127.0.0.1" in response.json()["detail"], (path, response.text)
