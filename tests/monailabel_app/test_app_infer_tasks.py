"""Inference requests in every format of the viewers become one prompt; outputs have one label value per name."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from brats_clip.cases import SEQUENCES
from brats_label.errors import ClientError
from brats_label.inference.answers import ClickTask, SegmentationTask
from brats_label.inference.options import OUTPUTS, TISSUES, InferOptions, present_labels, to_output
from brats_label.inference.service import Prompt
from brats_label.labels.naming import LABELS
from brats_label.settings import Settings

IMAGE = {"image": "A"}


@pytest.fixture
def automatic():
    return SegmentationTask(SimpleNamespace(settings=Settings()))


@pytest.fixture
def clicked():
    return ClickTask(SimpleNamespace(settings=Settings()))


def test_missing_options_take_their_defaults(automatic, clicked):
    assert automatic.prompt(IMAGE) == clicked.prompt(IMAGE) == Prompt("A")
    assert automatic.prompt({**IMAGE, "report": None, "use_report": None}) == Prompt("A")


def test_config_sent_back_unchanged_gives_the_defaults(automatic):
    options = automatic.config()
    assert options["output"] == list(OUTPUTS) and options["output"][0] == TISSUES
    assert automatic.prompt({**IMAGE, **options}) == Prompt("A")
    assert not InferOptions.read(options).submit


def test_every_offered_option_is_read(automatic):
    changed = {
        "report": "No enhancement.",
        "use_report": False,
        "output": "TC",
        "allow_missing_sequences": True,
        "use_t1": False,
        "use_t2": "false",
        "use_flair": "False",
        "use_t1ce": True,
        "submit": "true",
        "keep": "ET, TC",
        "history": "undo",
    }
    assert changed.keys() == automatic.config().keys()
    expected = Prompt("A", "No enhancement.", False, {}, {}, ("ET", "TC"), "TC", ("t1ce",), True)
    assert automatic.prompt({**IMAGE, **changed}) == expected
    assert InferOptions.read(changed).submit and InferOptions.read(changed).history == "undo"


@pytest.mark.parametrize(("sent", "read"), [(["WT"], "WT"), ([], TISSUES), (["ET", "WT"], "ET"), ("ET", "ET")])
def test_a_choice_may_come_as_a_list(automatic, sent, read):
    assert automatic.prompt({**IMAGE, "output": sent}).output == read


@pytest.mark.parametrize("text", ["true", "True", " TRUE ", True, "1", "yes"])
def test_switches_may_come_as_text(automatic, text):
    assert automatic.prompt({**IMAGE, "allow_missing_sequences": text}).allow_missing is True


@pytest.mark.parametrize(
    ("wrong", "named"), [({"use_report": "perhaps"}, "use_report"), ({"use_t1": [1]}, "use_t1"), ({"report": 5}, "int")]
)
def test_invalid_option_is_refused_by_name(automatic, wrong, named):
    with pytest.raises(ClientError, match=named):
        automatic.prompt({**IMAGE, **wrong})


def test_clicks_are_read_from_lists_or_text_and_empty_ones_are_dropped(clicked):
    sent = {"ET": [[1, 2, 3]], "NCR/NET": "[[4, 5, 6], [7, 8, 9]]", "background": [], "ED": "[]", "spleen": [[1, 1, 1]]}
    assert clicked.prompt({**IMAGE, **sent}).clicks == {"ET": [[1, 2, 3]], "NCR/NET": [[4, 5, 6], [7, 8, 9]]}


@pytest.mark.parametrize("wrong", ["here", 3, {"x": 1}, '{"x": 1}', "3"])
def test_malformed_clicks_are_refused(clicked, wrong):
    with pytest.raises(ClientError, match="clicks on ET"):
        clicked.prompt({**IMAGE, "ET": wrong})


def test_strokes_are_read_from_lists_or_text_and_empty_ones_are_dropped(automatic, clicked):
    sent = {"ET": [[[1, 2, 3], [4, 5, 6]], []], "ED": [], "background": "[[[1, 1, 1]]]"}
    read = {"ET": [[[1, 2, 3], [4, 5, 6]]], "background": [[[1, 1, 1]]]}
    for strokes in (sent, json.dumps(sent)):
        assert clicked.prompt({**IMAGE, "strokes": strokes}).strokes == read
    assert (
        clicked.prompt({**IMAGE, "strokes": ""}).strokes == automatic.prompt({**IMAGE, "strokes": sent}).strokes == {}
    )


@pytest.mark.parametrize("wrong", ["here", 3, [1], {"x": []}, {"ET": [[1, 2, 3]]}, {"ET": [[[1, 2]]]}, {"ET": "x"}])
def test_malformed_strokes_are_refused(clicked, wrong):
    with pytest.raises(ClientError, match=r"strokes: found .*; expected lists of polylines"):
        clicked.prompt({**IMAGE, "strokes": wrong})


@pytest.mark.parametrize("sent", ["ET TC", "ET,TC", ["ET", "TC"]])
def test_regions_to_keep_are_read_from_text_or_a_list(clicked, sent):
    assert clicked.prompt({**IMAGE, "keep": sent}).keep == ("ET", "TC")


def test_segmentation_model_ignores_clicks(automatic):
    assert automatic.prompt({**IMAGE, "ET": [[1, 2, 3]]}).clicks == {}


def test_model_info_has_type_labels_and_options(automatic, clicked):
    assert (automatic.info()["type"], clicked.info()["type"]) == ("segmentation", "deepedit")
    assert automatic.info()["labels"] == clicked.info()["labels"] == LABELS
    switches = {f"use_{sequence}" for sequence in SEQUENCES}
    assert switches <= automatic.info()["config"].keys()


def test_label_values_are_unique_and_not_background():
    assert len(set(LABELS.values())) == len(LABELS) and 0 not in LABELS.values()
    assert {name for names in OUTPUTS.values() for name in names} == set(LABELS)


@pytest.mark.parametrize(
    ("output", "expected"), [("WT", [0, 6, 6, 6]), ("TC", [0, 5, 0, 5]), ("ET", [0, 0, 0, 4]), (TISSUES, [0, 1, 2, 4])]
)
def test_output_maps_the_label_to_the_values_of_the_region(output, expected):
    answer = to_output(np.array([0, 1, 2, 4], np.uint8), output)
    np.testing.assert_array_equal(answer, expected)
    assert answer.dtype == np.uint8
    assert set(present_labels(answer)) <= set(OUTPUTS[output])


def test_present_lists_occurring_names_by_label_value():
    assert list(present_labels(np.array([4, 0, 1]))) == ["NCR/NET", "ET"]
    assert present_labels(np.zeros(3, np.uint8)) == {}
