"""At least 1,500 requests to all routes, generated from the OpenAPI description, cause no server error."""

from __future__ import annotations

import copy
import gzip
import json
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from app_folders import copy_cases
from app_server import RunningServer
from fastapi.openapi.utils import get_openapi

from brats_label.server import ROUTERS

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
REQUESTS, SEED = 1500, 0

TEXTS = (
    *("", " ", "PHANTOM_0", "PHANTOM_1@flair", "PHANTOM_9", "segmentation", "deepedit", "random", "final", "original"),
    *("../../etc/passwd", "..", "/", "a\x00b", "%00", "%2e%2e", "\r\nX: y", "½ ml", "\ud83d\ude00", "x" * 3000, "null"),
    *("0a1b2c3d-1111-2222-3333-444455556666", "SHA256:0", "-1", "1e400", "[]", "{}", "true", "'; drop table cases;--"),
)
NUMBERS = (0, 1, -1, 2, 7, 10**6, 2**31, 2**63, 10**30, -(10**30), 0.5, "NaN", "1e5", "")
KEYS = (
    *("report", "use_report", "output", "submit", "save_label", "label_tag", "ET", "background", "NCR/NET", "use_t1"),
    *(
        "max_epochs",
        "patch_size",
        "start_from",
        "resume",
        "learning_rate",
        "segmentation",
        "model",
        "image",
        "client_id",
    ),
    *("label_info", "result_extension", "result_compress", "max_batch_size", "user", "client_id", "strategy"),
)


class Maker:
    """Generates values for the described parameters, some valid and most invalid; the same for the same seed."""

    def __init__(self, description: dict, image: bytes) -> None:
        self.random, self.schemas = random.Random(SEED), description["components"]["schemas"]
        self.files = (b"", b"x", b"<html>", gzip.compress(b"x" * 999), image, image[:500], b"PK\x03\x04" + b"\0" * 60)

    def json(self, depth: int = 0) -> Any:
        kind = self.random.randrange(8 if depth < 3 else 5)
        if kind < 2:
            return self.random.choice(TEXTS)
        if kind < 4:
            return self.random.choice((*NUMBERS, [1, 2, 3], [[20, 20, 20]]))
        if kind == 4:
            return self.random.choice((True, False, None))
        if kind == 5:
            return [self.json(depth + 1) for _ in range(self.random.randrange(4))]
        return self.object(depth + 1)

    def object(self, depth: int = 0) -> dict:
        return {self.random.choice(KEYS): self.json(depth) for _ in range(self.random.randrange(5))}

    def value(self, schema: dict) -> str:
        """Return a value for a parameter in path or query."""
        if "enum" in schema or "$ref" in schema:
            named = schema.get("enum") or self.schemas[schema["$ref"].rpartition("/")[2]].get("enum", [])
            return self.random.choice((*named, *TEXTS))
        if "anyOf" in schema:
            return self.value(self.random.choice(schema["anyOf"]))
        if schema.get("type") in ("integer", "number"):
            return str(self.random.choice(NUMBERS))
        return self.random.choice(("true", "false", "perhaps") if schema.get("type") == "boolean" else TEXTS)

    def form(self, schema: dict) -> tuple[dict, list]:
        """Return fields and files of a form."""
        fields, files = {}, []
        for name, field in self.schemas[schema["$ref"].rpartition("/")[2]].get("properties", {}).items():
            if self.random.random() < 0.15:
                continue
            if "binary" in json.dumps(field) or "octet-stream" in json.dumps(field):
                file = self.random.choice(("x.nii.gz", "x.zip", "..", "a/b.nii", "x.nrrd", "", "model.pt"))
                files.append((name, (file, self.random.choice(self.files))))
            else:
                text = json.dumps(self.object())
                fields[name] = self.random.choice((text, text, text, *TEXTS)).encode("utf-8", "surrogatepass")
        return fields, files

    def request(self, method: str, path: str, operation: dict) -> requests.PreparedRequest:
        query = {}
        for parameter in operation.get("parameters", ()):
            value = self.value(parameter["schema"]).encode("utf-8", "surrogatepass")
            if parameter["in"] == "path":
                path = path.replace(f"{{{parameter['name']}}}", quote(value, safe=""))
            elif self.random.random() < 0.8:
                query[parameter["name"]] = value
        content, arguments = operation.get("requestBody", {}).get("content", {}), {}
        if "application/json" in content:
            body = json.dumps(self.random.choice((self.object(), self.object(), self.json())))
            arguments = {"data": body if self.random.random() < 0.9 else body[:-1], "headers": {}}
            arguments["headers"]["content-type"] = "application/json"
        elif content:
            fields, files = self.form(next(iter(content.values()))["schema"])
            arguments = {"data": fields, "files": files or None}
        prepared = requests.Request(method, "http://localhost/", params=query, **arguments).prepare()
        prepared.url = path + (f"?{prepared.url.partition('?')[2]}" if query else "")
        return prepared


def description() -> dict:
    """Return the OpenAPI description of all routes, including hidden ones."""
    routes = [copy.copy(route) for router in ROUTERS for route in router.routes]
    for route in routes:
        route.include_in_schema = True
    return get_openapi(title="all", version="0", routes=routes)


def test_generated_requests_cause_no_server_error(tiny_data_set, tmp_path):
    copy_cases(tiny_data_set, tmp_path / "studies")
    image = (tmp_path / "studies" / "PHANTOM_0" / "PHANTOM_0_seg.nii.gz").read_bytes()
    every = description()
    operations = [(m.upper(), path, o) for path, methods in every["paths"].items() for m, o in methods.items()]
    maker, statuses, failed = Maker(every, image), Counter(), []
    conf = {"max_upload_mb": 2, "max_unpacked_mb": 1, "max_sessions": 3, "max_report_chars": 2000}
    with RunningServer(tmp_path / "studies", tmp_path / "server", conf) as server, requests.Session() as session:
        for method, path, operation in operations * math.ceil(REQUESTS / len(operations)):
            prepared = maker.request(method, path, operation)
            sent = f"{method} {prepared.url[:300]} {str(prepared.body)[:300]}"
            prepared.url = server.url + prepared.url
            response = session.send(prepared, timeout=120, allow_redirects=False)
            statuses[response.status_code] += 1
            if response.status_code >= 500:
                failed.append(sent)
        assert requests.get(f"{server.url}/info/", timeout=60).json()["datastore"]["total"] >= 3
        log = server.text()
    assert not failed, "\n".join(failed)
    assert '"status": 5' not in log and "Traceback" not in log
    assert sum(statuses.values()) >= REQUESTS and statuses[200] > 100, statuses
    assert len(operations) > 50
    assert Path(tmp_path / "studies" / "PHANTOM_0").is_dir()
