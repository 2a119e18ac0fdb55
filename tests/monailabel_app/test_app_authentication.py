"""MONAI Label's authentication setting, tested against a stub of a Keycloak realm."""

from __future__ import annotations

import base64
import json
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import jwt
import nibabel as nib
import numpy as np
import pytest
import requests
from app_server import RunningServer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import HTTPException
from monailabel.client import MONAILabelClient
from pydicom import dcmread

from brats_label.demo.orthanc import LocalOrthanc
from brats_label.demo.phantom_study import write_study
from brats_label.dicom.client import Client, connect
from brats_label.server import authentication

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CASE = "PHANTOM_0"
USERS = {
    "ursula": ("monailabel-user",),
    "anna": ("monailabel-user", "monailabel-annotator"),
    "adam": ("monailabel-user", "monailabel-annotator", "monailabel-reviewer", "monailabel-admin"),
    "nobody": (),
}


class Realm:
    """A stub realm on its own port: public key, token endpoint, and tokens for a user name and password."""

    def __init__(self) -> None:
        self.change_key()
        realm = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/realms/monailabel":
                    self.tell(200, {"realm": "monailabel", "public_key": realm.public_key()})
                elif self.path == "/realms/monailabel/.well-known/openid-configuration":
                    self.tell(200, {"issuer": realm.uri, "token_endpoint": f"{realm.uri}/token"})
                else:
                    self.tell(404, {"error": "not found"})

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                name, password = form["username"][0], form["password"][0]
                assert form["grant_type"] == ["password"] and form["client_id"] == ["monailabel-app"]
                if name in USERS and password == f"{name}'s secret":
                    self.tell(200, {"access_token": realm.token(name), "token_type": "Bearer", "expires_in": 60})
                else:
                    self.tell(401, {"error": "invalid_grant"})

            def tell(self, status: int, body: dict) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_port}/realms/monailabel"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def change_key(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def public_key(self) -> str:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return base64.b64encode(self.key.public_key().public_bytes(serialization.Encoding.DER, form)).decode()

    def claims(self, name: str, valid_s: float = 600) -> dict:
        roles = list(USERS[name])
        return {"preferred_username": name, "exp": time.time() + valid_s, "realm_access": {"roles": roles}, "aud": "x"}

    def token(self, name: str, valid_s: float = 600) -> str:
        return jwt.encode(self.claims(name, valid_s), self.key, algorithm="RS256")


@pytest.fixture(scope="module")
def realm():
    realm = Realm()
    yield realm
    realm.server.shutdown()


@pytest.fixture(scope="module")
def server(realm, tiny_data_set, tmp_path_factory):
    studies = tmp_path_factory.mktemp("studies")
    shutil.copytree(tiny_data_set.folder / CASE, studies / CASE)
    switch = {"MONAI_LABEL_AUTH_ENABLE": "true", "MONAI_LABEL_AUTH_REALM_URI": realm.uri}
    with RunningServer(studies, tmp_path_factory.mktemp("server"), environment=switch) as server:
        yield server


@pytest.fixture(scope="module")
def ask(server, realm):
    def ask(method: str, path: str, user: str = "", token: str = "", **kwargs) -> requests.Response:
        token = token or (realm.token(user) if user else "")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return requests.request(method, server.url + path, headers=headers, timeout=120, **kwargs)

    return ask


@pytest.fixture(scope="module")
def label(server, tmp_path_factory) -> Path:
    image = nib.load(Path(server.studies) / CASE / f"{CASE}_t1ce.nii.gz")
    drawn = np.zeros(image.shape, np.uint8)
    drawn[20:24, 20:24, 20:24] = 2
    path = tmp_path_factory.mktemp("label") / "label.nii.gz"
    nib.save(nib.Nifti1Image(drawn, image.affine), path)
    return path


EVERYTHING = [
    ("GET", "/info/"),
    ("POST", f"/infer/segmentation?image={CASE}"),
    ("POST", "/activelearning/random"),
    ("GET", "/datastore/"),
    ("GET", f"/datastore/image?image={CASE}"),
    ("PUT", f"/datastore/label?image={CASE}"),
    ("GET", f"/datastore/label/history?image={CASE}"),
    ("POST", f"/datastore/label/restore?image={CASE}&version=1"),
    ("PUT", "/datastore/image?image=NEW"),
    ("DELETE", f"/datastore/image?id={CASE}"),
    ("GET", "/train/"),
    ("POST", "/train/segmentation"),
    ("DELETE", "/train/"),
    ("GET", "/model/versions/"),
    ("POST", "/model/versions/0/use"),
    ("GET", "/model/segmentation"),
    ("PUT", "/model/segmentation"),
    ("GET", "/logs/"),
    ("PUT", "/session/"),
    ("POST", "/batch/infer/segmentation"),
    ("GET", "/ohif/"),
    ("GET", "/ohif/app-config.js"),
    ("GET", "/proxy/dicom/studies"),
    ("POST", "/proxy/dicom/studies"),
]


@pytest.mark.parametrize(("method", "path"), EVERYTHING)
def test_request_without_a_token_is_refused(ask, method, path):
    response = ask(method, path)
    assert response.status_code == 401, response.text
    assert response.headers["www-authenticate"].startswith("Bearer")


def test_user_role_may_view_and_segment_but_not_save_train_or_switch_weights(ask, label):
    assert ask("GET", "/info/", "ursula").json()["models"].keys() == {"segmentation", "deepedit"}
    answer = ask("POST", f"/infer/segmentation?image={CASE}&output=json", "ursula")
    assert answer.status_code == 200 and answer.json()["volumes_ml"]
    for method, path in (("GET", "/ohif/"), ("GET", "/datastore/"), ("POST", "/activelearning/random")):
        assert ask(method, path, "ursula").status_code == 200, path
    assert ask("GET", "/proxy/dicom/studies", "ursula").status_code == 404  # the studies are files
    with label.open("rb") as file:
        refused = ask("PUT", f"/datastore/label?image={CASE}", "ursula", files={"label": file})
    assert refused.status_code == 403 and "monailabel-annotator" in refused.json()["detail"]
    for method, path in (("POST", "/train/segmentation"), ("POST", "/model/versions/0/use"), ("GET", "/logs/")):
        assert ask(method, path, "ursula").status_code == 403, path


def test_a_token_without_a_role_is_refused(ask):
    assert ask("GET", "/info/", "nobody").status_code == 403


def test_annotator_role_may_save_and_the_author_is_taken_from_the_token(ask, label):
    with label.open("rb") as file:
        params = {"params": json.dumps({"client_id": "adam", "user": "adam"})}
        saved = ask("PUT", f"/datastore/label?image={CASE}", "anna", files={"label": file}, data=params)
    assert saved.status_code == 200, saved.text
    last = ask("GET", f"/datastore/label/history?image={CASE}", "ursula").json()[-1]
    assert last["who"] == "anna"
    restore = f"/datastore/label/restore?image={CASE}&version={last['version']}"
    assert ask("POST", restore, "anna").status_code == 403
    assert ask("POST", "/train/segmentation", "anna").status_code == 403
    assert ask("POST", restore, "adam").status_code == 200
    assert ask("GET", f"/datastore/label/history?image={CASE}", "ursula").json()[-1]["who"] == "adam"


def test_user_role_cannot_save_through_inference_options(ask):
    before = ask("GET", f"/datastore/label/history?image={CASE}", "ursula").json()
    for key, value in (("submit", True), ("save_label", True)):
        data = {"params": json.dumps({key: value})}
        answer = ask("POST", f"/infer/segmentation?image={CASE}&output=json", "ursula", data=data)
        assert answer.status_code == 403, answer.text
    assert ask("GET", f"/datastore/label/history?image={CASE}", "ursula").json() == before


def test_client_cannot_name_server_files_or_paths_as_sessions(ask, label):
    inner = {"uploaded": str(label), "name": "x.nii.gz", "session_id": "../x", "user": "adam"}
    answer = ask("POST", f"/infer/segmentation?image={CASE}&output=json", "ursula", data={"params": json.dumps(inner)})
    assert answer.status_code == 200 and answer.json()["case"] == CASE
    answer = ask("POST", "/infer/segmentation?session_id=../../studies", "ursula")
    assert answer.status_code == 404 and "session" in answer.json()["detail"]


def test_admin_role_may_train_and_switch_weights(ask):
    assert ask("POST", "/model/versions/0/use", "adam").json()["number"] == 0
    # The request is authorised; it is refused because one labelled patient cannot be split.
    trained = ask("POST", "/train/segmentation", "adam", json={"max_epochs": 1})
    assert trained.status_code == 422 and "two patients" in trained.json()["detail"]
    assert ask("DELETE", "/train/", "adam").status_code == 200


def test_user_role_cannot_store_on_the_dicom_server(needs_orthanc, realm, tiny_data_set, tmp_path):
    study = write_study(tiny_data_set.folder / CASE, tmp_path / "dicom", "P")
    switch = {"MONAI_LABEL_AUTH_ENABLE": "true", "MONAI_LABEL_AUTH_REALM_URI": realm.uri}
    conf = {"workspace": tmp_path / "workspace"}
    with (
        LocalOrthanc(tmp_path / "orthanc") as orthanc,
        RunningServer(orthanc.url, tmp_path / "server", conf, switch) as server,
    ):

        def client(name: str) -> Client:
            made = connect(f"{server.url}/proxy/dicom")
            made._session.headers["Authorization"] = f"Bearer {realm.token(name)}"
            return made

        instance = dcmread(study.files()[0])
        with pytest.raises(requests.HTTPError, match="403"):
            client("ursula").store_instances([instance])
        assert client("ursula").search_for_studies() == []
        client("anna").store_instances([instance])
        [found] = client("ursula").search_for_studies()
        assert found["0020000D"]["Value"] == [study.study_uid]
        assert client("ursula").search_for_series(study.study_uid)


def forged(realm) -> dict[str, str]:
    claims = realm.claims("adam")
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    no_end = {key: value for key, value in claims.items() if key != "exp"}
    no_name = {key: value for key, value in claims.items() if key != "preferred_username"}
    parts = [base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in ({"alg": "none"}, claims)]
    return {
        "expired": realm.token("adam", valid_s=-60),
        "another key": jwt.encode(claims, stranger, algorithm="RS256"),
        "changed": realm.token("ursula")[:-8] + "AAAAAAAA",
        "no signature": ".".join([*parts, ""]),
        "the public key as a secret": jwt.encode(claims, realm.public_key(), algorithm="HS256"),
        "for ever": jwt.encode(no_end, realm.key, algorithm="RS256"),
        "of nobody": jwt.encode(no_name, realm.key, algorithm="RS256"),
        "no token at all": "open sesame".replace(" ", ""),
    }


def test_forged_and_expired_tokens_are_refused(ask, realm):
    for name, token in forged(realm).items():
        response = ask("GET", "/info/", token=token)
        assert response.status_code == 401, name
        assert ("expired" in response.json()["detail"]) == (name == "expired")


def test_slicer_client_logs_in_and_a_wrong_password_is_refused(server, ask):
    client = MONAILabelClient(server.url)
    assert client.auth_enabled()
    client.update_auth(client.auth_token("anna", "anna's secret"))
    assert client.auth_valid_token() and client.info()["models"]
    wrong = ask("POST", "/auth/token", data={"username": "anna", "password": "guess"})
    assert wrong.status_code == 401 and "password" in wrong.json()["detail"]


def test_log_contains_no_tokens_or_passwords(server, realm, ask):
    ask("GET", "/info/", "anna")
    assert "eyJ" not in server.text() and "secret" not in server.text()


def test_unreachable_realm_is_reported(realm, tiny_data_set, tmp_path):
    studies = tmp_path / "studies"
    shutil.copytree(tiny_data_set.folder / CASE, studies / CASE)
    switch = {"MONAI_LABEL_AUTH_ENABLE": "true", "MONAI_LABEL_AUTH_REALM_URI": "http://127.0.0.1:9/realms/monailabel"}
    with RunningServer(studies, tmp_path / "server", environment=switch) as server:
        headers = {"Authorization": f"Bearer {realm.token('anna')}"}
        answer = requests.get(f"{server.url}/info/", headers=headers, timeout=30)
        assert answer.status_code == 424 and "login server" in answer.json()["detail"]


def test_changed_realm_key_is_fetched_and_old_tokens_are_refused(monkeypatch):
    realm = Realm()
    monkeypatch.setattr(authentication.settings, "MONAI_LABEL_AUTH_REALM_URI", realm.uri)
    monkeypatch.setattr(authentication, "KEY_AGE_S", 0.0)
    monkeypatch.setattr(authentication, "_key", authentication._Key())
    assert authentication.current_user(realm.token("anna")).username == "anna"
    old = realm.token("anna")
    realm.change_key()
    assert authentication.current_user(realm.token("adam")).roles == list(USERS["adam"])
    with pytest.raises(HTTPException) as refused:
        authentication.current_user(old)
    assert refused.value.status_code == 401
    realm.server.shutdown()
