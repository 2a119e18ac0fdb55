"""Send a fixed list of requests to every route, and extract the parts of each response that are compared.

``test_app_route_recording.py`` compares them with ``route_recording.json``. That file was recorded at commit 560bb96,
when MONAI Label's own routes still answered some of the requests. The exceptions are the log page, which no longer
loads scripts from other sites, and the field ``quality_fitted``, which was added later. With ``RECORD_ROUTES=1`` the
test records the file again.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import requests
from app_folders import as_four_d, copy_cases
from app_server import RunningServer
from test_app_bad_requests import BAD, CASE, send

RECORDING = Path(__file__).with_name("route_recording.json")
LIMITS = {"max_upload_mb": 2, "max_unpacked_mb": 1, "max_sessions": 3, "max_report_chars": 20_000}
HEADERS = (
    *("allow", "content-disposition", "content-security-policy", "content-type", "location", "retry-after"),
    *("www-authenticate", "access-control-allow-origin", "x-request-id", "x-volumes"),
)
OTHER, NO_SESSION = "PHANTOM_1", "0a1b2c3d-1111-2222-3333-444455556666"
# The content of these fields depends on the weights, and on how the bundle reads a report.
OF_THE_NETWORK = ("label_names", "report", "look_here", "quality")
VARIES = ("missing", "sequences", "strategy")
FINAL, INFER, DEEP = f"label={CASE}&tag=final", "/infer/segmentation", "/infer/deepedit"


class Call(NamedTuple):
    """A request; ``files`` is made from the studies folder, ``omit`` names fields whose content varies between runs."""

    method: str
    path: str
    params: dict | None = None
    json: dict | None = None
    files: Callable[[Path], dict] | None = None
    headers: dict | None = None
    omit: tuple[str, ...] = ()


def label(case: str = CASE) -> Callable[[Path], dict]:
    return lambda studies: {"label": ("label.nii.gz", (studies / case / f"{case}_seg.nii.gz").read_bytes())}


def four_d(field: str) -> Callable[[Path], dict]:
    def build(studies: Path) -> dict:
        with tempfile.TemporaryDirectory() as folder:
            path = as_four_d(studies / CASE, Path(folder) / "four.nii.gz", ("t1", "t1ce", "t2", "flair"))
            return {field: ("four.nii.gz", path.read_bytes())}

    return build


def voxel(studies: Path) -> list[int]:
    shape = np.array(nib.load(studies / CASE / f"{CASE}_t1ce.nii.gz").shape)
    return (shape // 2).tolist()


GOOD: tuple[Call, ...] = (
    # pages
    Call("GET", "/"),
    Call("GET", "/info/"),
    Call("GET", "/info"),
    Call("GET", "/docs"),
    Call("GET", "/openapi.json"),
    Call("GET", "/favicon.ico"),
    Call("GET", "/static/favicon.ico"),
    Call("GET", "/static/nothing.js"),
    Call("GET", "/ohif/"),
    Call("GET", "/ohif/app-config.js"),
    Call("GET", "/ohif/gone.js"),
    Call("GET", "/logs/"),
    Call("GET", "/logs/?lines=5&html=false"),
    Call("GET", "/logs/?lines=5&text=true"),
    Call("GET", "/logs/?lines=5&refresh=5"),
    Call("GET", "/logs/?lines=0"),
    Call("GET", "/logs/?lines=x"),
    Call("GET", "/auth/"),
    Call("GET", "/auth/token/valid"),
    Call("POST", "/auth/token"),
    Call("POST", "/reload"),
    Call("POST", "/infer/wsi/segmentation"),
    Call("POST", "/infer/wsi_v2/segmentation"),
    Call("OPTIONS", "/info/", headers={"Origin": "http://127.0.0.1", "Access-Control-Request-Method": "GET"}),
    Call("OPTIONS", "/info/", headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "GET"}),
    Call("GET", "/info/", headers={"Origin": "http://127.0.0.1:3000"}),
    Call("GET", "/info/", headers={"Host": "evil.example"}),
    Call("HEAD", "/info/"),
    Call("POST", "/proxy/dicom/studies"),
    *(Call("GET", f"/proxy/dicom/{kind}/studies") for kind in ("qido", "wado", "stow")),
    *(Call(method, "/scoring/") for method in ("GET", "POST", "DELETE")),
    # Each of the three cases is handed out once. With these seeds "me" gets OTHER; its lease is requested below.
    Call("POST", "/activelearning/random", json={"seed": 0}, omit=VARIES),
    Call("POST", "/activelearning/expected_gain", json={"client_id": "me", "seed": 0}, omit=VARIES),
    Call("POST", "/activelearning/random", json=None, omit=VARIES),
    # review
    Call("GET", "/review/"),
    Call("GET", "/review/?output=json", omit=VARIES),
    Call("GET", "/review/", headers={"Accept": "application/json"}, omit=VARIES),
    Call("GET", "/review/export.csv"),
    # images
    Call("GET", "/datastore/"),
    Call("GET", "/datastore/?output=stats"),
    Call("GET", "/datastore/?output=all", omit=("strategy",)),
    Call("GET", "/datastore/?output=train"),
    Call("GET", "/datastore/?output=nothing"),
    Call("GET", f"/datastore/image?image={CASE}"),
    Call("GET", "/datastore/image"),
    Call("HEAD", f"/datastore/image?image={CASE}"),
    Call("HEAD", "/datastore/image?image=PHANTOM_9"),
    Call("GET", f"/datastore/image/info?image={CASE}", omit=("strategy",)),
    Call("GET", "/datastore/image/info?image=PHANTOM_9"),
    Call("PUT", f"/datastore/image/info?image={CASE}", {"note": "looked at"}),
    Call("PUT", "/datastore/image?image=NEW", files=four_d("file")),
    Call("PUT", "/datastore/", files=four_d("file")),
    Call("PUT", "/datastore/image?image=NEW", files=four_d("file")),
    Call("DELETE", "/datastore/?id=NEW"),
    # inference
    Call("POST", f"{INFER}?image={CASE}&output=json"),
    Call("POST", f"{INFER}?image={CASE}&output=image", {"report": "A right temporal glioma without enhancement."}),
    Call("POST", f"{INFER}?image={CASE}"),
    Call("POST", f"{INFER}?image={CASE}&output=json", {"use_report": False, "reprot": "x", "submit": "false"}),
    Call("POST", f"{INFER}?image={CASE}&output=image", {"result_extension": ".nrrd"}),
    Call("POST", f"{DEEP}?image={CASE}&output=json", {"ET": "VOXEL", "background": []}),
    Call("POST", f"{INFER}?image={OTHER}&output=json", {"save_label": True}),
    Call("POST", f"{INFER}?output=json", files=four_d("file")),
    Call("PUT", "/session/?expiry=600", files=four_d("files")),
    Call("GET", "/session/SESSION"),
    Call("GET", "/session/SESSION?image=true"),
    Call("POST", f"{INFER}?session_id=SESSION&output=json"),
    Call("DELETE", "/session/SESSION"),
    Call("GET", "/session/SESSION"),
    Call("GET", "/batch/infer"),
    Call("DELETE", "/batch/infer"),
    Call("POST", "/batch/infer/segmentation?images=unlabeled&run_sync=true", json={"max_batch_size": 1}),
    Call("GET", "/batch/infer"),
    Call("GET", "/batch/infer?all=true"),
    Call("GET", f"/review/{OTHER}/thumbnail.png"),
    Call("POST", f"/review/{OTHER}/accept?client_id=me"),
    Call("DELETE", f"/datastore/label?id={OTHER}&tag=final"),
    Call("POST", f"/review/{OTHER}/lease?client_id=you"),
    Call("POST", f"/review/{OTHER}/accept?client_id=me"),
    Call("DELETE", f"/review/{OTHER}/lease?client_id=you"),
    # labels
    Call("GET", "/datastore/dataset"),
    Call("HEAD", f"/datastore/label?image={CASE}&tag=final"),
    Call("GET", f"/datastore/label?{FINAL}"),
    Call("PUT", f"/datastore/label?image={CASE}", {"client_id": "me"}, files=label()),
    Call("PUT", f"/datastore/label?image={CASE}", files=label()),
    Call("HEAD", f"/datastore/label?image={CASE}&tag=final"),
    Call("GET", f"/datastore/label?{FINAL}"),
    Call("GET", f"/datastore/label?label={CASE}"),
    Call("GET", f"/datastore/label/info?{FINAL}"),
    Call("PUT", f"/datastore/label/info?{FINAL}", {"note": "checked"}),
    Call("PUT", f"/datastore/updatelabelinfo?{FINAL}", {"note": "checked again"}),
    Call("GET", f"/datastore/label/info?{FINAL}"),
    Call("GET", f"/datastore/label/history?image={CASE}"),
    Call("GET", "/datastore/label/history?image=PHANTOM_9"),
    Call("POST", f"/datastore/label/restore?image={CASE}&version=1"),
    Call("GET", "/datastore/dataset"),
    Call("GET", "/datastore/dataset?limit_cases=1"),
    Call("GET", "/datastore/?output=train"),
    Call("GET", "/datastore/?output=all", omit=("strategy",)),
    Call("DELETE", f"/datastore/label?id={CASE}&tag=original"),
    # training and weights
    Call("GET", "/train/"),
    Call("GET", "/train/?all=true"),
    Call("POST", "/train/"),
    Call("POST", "/train/segmentation", json={"max_epochs": "many"}),
    Call("POST", "/train/segmentation", json={}),
    Call("DELETE", "/train/"),
    Call("PUT", f"/datastore/label?image={OTHER}", files=label(OTHER)),
    Call("POST", "/train/segmentation", json={"max_epochs": 200, "patch_size": 64, "spacing": 4.0}, omit=("details",)),
    Call("GET", "/train/?check_if_running=true", omit=("details", "progress")),
    Call("GET", "/train/?all=true", omit=("details", "progress")),
    Call("POST", "/train/segmentation", json={"max_epochs": 1}),
    Call("DELETE", "/train/", omit=("details",)),
    Call("GET", "/train/", omit=("details", "progress")),
    Call("GET", "/info/", omit=("train_stats",)),
    Call("GET", "/model/versions/"),
    Call("POST", "/model/versions/0/use"),
    Call("GET", "/model/info/segmentation"),
    Call("GET", "/model/info/liver"),
    Call("GET", "/model/segmentation"),
    Call("DELETE", f"/datastore/label?id={CASE}&tag=final"),
    Call("DELETE", f"/datastore/label?id={CASE}&tag=final"),
)


def json_structure(value: Any, omit: tuple[str, ...] = ()) -> Any:
    """Return the structure of JSON data: field names and value types, independent of wording and numbers."""
    if isinstance(value, dict):
        return {
            key: "..." if key in (*omit, *OF_THE_NETWORK) else json_structure(inner, omit)
            for key, inner in sorted(value.items())
            if not (key == "seconds" and isinstance(inner, float))  # since a lease, which a random case has
        }
    if isinstance(value, list):
        kinds = {json.dumps(json_structure(inner, omit)): json_structure(inner, omit) for inner in value}
        return [kinds[key] for key in sorted(kinds)]
    return {bool: "bool", int: "number", float: "number", str: "text", type(None): "null"}[type(value)]


def api_structure(api: dict) -> dict:
    """Return the methods and the parameters of each path of an OpenAPI description."""

    def names(operation: dict) -> list[str]:
        # MONAI Label lists its own token as a parameter by mistake.
        return sorted(p["name"] for p in operation.get("parameters", ()) if p["name"] != "token")

    return {
        path: {method: names(operation) for method, operation in sorted(methods.items())}
        for path, methods in sorted(api["paths"].items())
    }


def compared_parts(response: requests.Response, omit: tuple[str, ...] = ()) -> dict:
    """Return the parts of a response that are compared."""
    found = {name: response.headers[name] for name in HEADERS if name in response.headers}
    for name in ("x-request-id", "x-volumes"):  # other tests check their content
        found |= {name: "..."} if name in found else {}
    if "content-security-policy" in found:
        found["content-security-policy"] = re.sub(r"nonce-[\w-]+", "nonce-...", found["content-security-policy"])
    if "location" in found:
        found["location"] = re.sub(r":\d+/", ":PORT/", found["location"])
    if "content-type" in found:
        kind = found["content-type"].partition("; boundary")[0]
        # The media type of icons and weights depends on the machine's MIME table.
        found["content-type"] = "..." if kind.startswith(("image/", "application/vnd.")) else kind
    if "content-disposition" in found:
        found["content-disposition"] = re.sub(r"label-\w+", "label-...", found["content-disposition"])
    answer: dict[str, Any] = {"status": response.status_code, "headers": found}
    if response.headers.get("content-type", "") == "application/json" and response.content:
        content = response.json()
        is_description = isinstance(content, dict) and "openapi" in content
        answer["fields"] = api_structure(content) if is_description else json_structure(content, omit)
    return answer


def replay(server: RunningServer) -> Iterator[tuple[str, dict]]:
    """Send all requests in order; yield each request and the compared parts of its response."""
    studies, session = Path(server.studies), NO_SESSION
    for call in GOOD:
        data = None
        if call.params is not None:
            params = {key: [voxel(studies)] if value == "VOXEL" else value for key, value in call.params.items()}
            data = {"info" if call.path.partition("?")[0].endswith("/info") else "params": json.dumps(params)}
        response = requests.request(
            call.method,
            server.url + call.path.replace("SESSION", session),
            data=data,
            json=call.json,
            files=call.files(studies) if call.files else None,
            headers=call.headers,
            allow_redirects=False,
            timeout=120,
        )
        if (call.method, call.path.partition("?")[0]) == ("PUT", "/session/") and response.ok:
            session = response.json()["session_id"]
        yield f"{call.method} {call.path} {call.headers or ''}".strip(), compared_parts(response, call.omit)


def replay_bad(server: RunningServer) -> Iterator[tuple[str, dict]]:
    """Do the same for the bad requests, which change no state."""
    for bad in BAD:
        yield f"bad: {bad.name}", compared_parts(send(server, bad))


def replay_without_token(server: RunningServer, routes: dict[str, dict]) -> Iterator[tuple[str, dict]]:
    """Request every route without a token from a server that requires one, including routes not described."""
    hidden = {"/ohif/": ("get",), "/proxy/dicom/studies": ("get", "post"), "/datastore/": ("put", "delete")}
    public = {"/auth/": ("get",), "/auth/token/valid": ("get",), "/": ("get",), "/openapi.json": ("get",)}
    routes = {path.replace("{session_id}", NO_SESSION): methods for path, methods in routes.items()}
    listed = {re.sub(r"\{\w+\}", "1", path): tuple(methods) for path, methods in routes.items()}
    for path, methods in [*sorted(listed.items()), *hidden.items(), *public.items()]:
        for method in methods:
            response = requests.request(method.upper(), server.url + path, timeout=60)
            yield f"without a token: {method.upper()} {path}", compared_parts(response)


def record(data_set, folder: Path) -> Iterator[tuple[str, dict]]:
    """Record all responses on separate servers. One of the three cases has no FLAIR, as the bad requests expect."""
    studies = folder / "studies"
    copy_cases(data_set, studies)
    (studies / "PHANTOM_2" / "PHANTOM_2_flair.nii.gz").unlink()
    (studies / "secret.txt").write_text("not for clients")
    with RunningServer(studies, folder / "server", LIMITS) as server:
        routes = api_structure(requests.get(f"{server.url}/openapi.json", timeout=60).json())
        answers = [*numbered(replay_bad(server)), *numbered(replay(server))]
    switch = {"MONAI_LABEL_AUTH_ENABLE": "true", "MONAI_LABEL_AUTH_REALM_URI": "http://127.0.0.1:9/realms/x"}
    with RunningServer(studies, folder / "closed", environment=switch) as server:
        answers += numbered(replay_without_token(server, routes))
    yield from answers


def numbered(answers: Iterator[tuple[str, dict]]) -> list[tuple[str, dict]]:
    """Return the responses under unique names."""
    seen: dict[str, int] = {}
    named = []
    for name, answer in answers:
        seen[name] = seen.get(name, 0) + 1
        named.append((f"{name} ({seen[name]})" if seen[name] > 1 else name, answer))
    return named


def packed(answers: dict[str, dict]) -> str:
    """Return the recording as JSON text, one response per line."""
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(answer)}" for name, answer in answers.items())
    return f"{{\n{lines}\n}}\n"
