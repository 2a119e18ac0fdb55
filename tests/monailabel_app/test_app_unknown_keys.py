"""A misspelt option is reported; the keys that viewers always send are not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from brats_label.inference import answers
from brats_label.inference.options import not_understood

OPTIONS = ("report", "use_report", "output", "allow_missing_sequences", "submit", "use_t1")
OHIF = {"background": [], "ET": [[1, 2, 3]], "restore_label_idx": False, "result_compress": False}
SLICER = {"label": "ET", "result_extension": ".nrrd", "result_dtype": "uint8", "client_id": "user-xyz", "report": ""}


def test_misspelt_option_is_reported_with_a_suggestion():
    assert not_understood({"model": "segmentation", "reprot": "x"}, OPTIONS) == ["'reprot' (did you mean report?)"]
    assert not_understood({"x" * 100: 1}, OPTIONS) == [repr("x" * 40)]
    assert not_understood({f"key{n}": n for n in range(9)}, OPTIONS)[-1] == "and 4 more"


@pytest.mark.parametrize("sent", [OHIF, SLICER], ids=["OHIF", "Slicer"])
def test_keys_that_viewers_send_are_known(sent):
    assert not_understood(sent | {"model": "deepedit", "image": "A", "device": "cpu", "user": ""}, OPTIONS) == []


def test_unknown_option_is_noted_in_the_answer(monkeypatch):
    answered = {"file": "f", "params": {"notes": ["n"]}}
    monkeypatch.setattr(answers, "_answered", lambda *_: answered)
    app = SimpleNamespace(infer_task=lambda name: SimpleNamespace(config=lambda: dict.fromkeys(OPTIONS)))
    result = answers.answer_request(app, {"model": "m", "image": "A", "reprot": "secret"})
    assert result["params"]["notes"] == ["n", "Not understood: 'reprot' (did you mean report?)."]
    assert answers.answer_request(app, {"model": "m", "image": "A"}) is answered
