"""Every route answers with the status and fields recorded before the app replaced MONAI Label's routes."""

from __future__ import annotations

import json
import os

import pytest
from route_recording import RECORDING, packed, record

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_every_route_answers_with_the_recorded_status_headers_and_fields(tiny_data_set, tmp_path):
    answers = dict(record(tiny_data_set, tmp_path))
    if os.environ.get("RECORD_ROUTES"):
        RECORDING.write_text(packed(answers))
    recorded = json.loads(RECORDING.read_text())
    assert list(answers) == list(recorded)
    different = {name: (recorded[name], answer) for name, answer in answers.items() if answer != recorded[name]}
    assert not different, "\n".join(f"{name}\n  was {old}\n  is  {new}" for name, (old, new) in different.items())
