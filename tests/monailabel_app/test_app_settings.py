"""Every setting is read from the command line; an invalid one is refused with what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from brats_clip.errors import InputError
from brats_label.settings import Settings, Workspace, fields_of

BUNDLE = Path(__file__).parents[2] / "bundle"
GIVEN = {
    "bundle": (str(BUNDLE), str(BUNDLE)),
    "checkpoint": (str(BUNDLE / "models" / "model.pt"), str(BUNDLE / "models" / "model.pt")),
    "device": ("cuda:1", "cuda:1"),
    "workspace": ("/some/where", "/some/where"),
    "reference": ("flair", "flair"),
    "preprocess": ("never", "never"),
    "allow_missing_sequences": ("1", True),
    "pattern_t1": ("*a*", "*a*"),
    "pattern_t1ce": ("*b*", "*b*"),
    "pattern_t2": ("*c*", "*c*"),
    "pattern_flair": ("*d*", "*d*"),
    "channels": ("flair, t1,t1ce,t2", "flair, t1,t1ce,t2"),
    "cache_gb": ("0.5", 0.5),
    "disk_cache_gb": ("3.5", 3.5),
    "jobs": ("3", 3),
    "waiting": ("0", 0),
    "max_upload_mb": ("7", 7),
    "max_unpacked_mb": ("9", 9),
    "max_sessions": ("4", 4),
    "max_report_chars": ("99", 99),
    "remote": ("Yes", True),
    "phantoms": (str(Path(__file__).parent), str(Path(__file__).parent)),
    "double_share": ("0.1", 0.1),
    "validation_share": ("0.5", 0.5),
    "seed": ("12", 12),
}


@pytest.mark.parametrize("name", fields_of(Settings))
def test_setting_is_read_and_described(name):
    (text, value), setting = GIVEN[name], fields_of(Settings)[name]
    assert getattr(Settings.read({name: text}), name) == value != setting.default
    assert setting.description


def test_defaults_apply_and_settings_of_monai_label_are_ignored():
    own = {"server_mode": "true", "models": "all", "auto_update_scoring": "false"}
    assert Settings.read(None) == Settings.read(own) == Settings()


@pytest.mark.parametrize(
    ("wrong", "near"), [("divice", "device"), ("alow_missing_sequences", "allow_missing_sequences")]
)
def test_unknown_setting_is_refused_with_a_suggestion(wrong, near):
    with pytest.raises(InputError, match=near) as refused:
        Settings.read({wrong: "1"})
    assert wrong in str(refused.value)


def test_unknown_setting_without_a_similar_one_is_refused_with_all():
    with pytest.raises(InputError, match=r"bundle, checkpoint, .*seed"):
        Settings.read({"qqq": "1"})


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("preprocess", "perhaps", "auto or always or never"),
        ("allow_missing_sequences", "perhaps", "true or false"),
        ("jobs", "many", "a number"),
        ("jobs", "0", "at least 1"),
        ("waiting", "-1", "at least 0"),
        ("max_upload_mb", "0", "at least 1"),
        ("max_report_chars", "0", "at least 1"),
        ("seed", "-1", "at least 0"),
        ("cache_gb", "nan", "at least 0"),
        ("cache_gb", "inf", "at least 0"),
        ("cache_gb", "-1", "at least 0"),
        ("validation_share", "0", "more than 0"),
        ("validation_share", "1", "less than 1"),
        ("reference", "t3", "t1ce"),
        ("channels", "t1,t1,t2,flair", "once"),
        ("device", "tpu", "cpu or cuda"),
        ("bundle", "/no/where", "bundle"),
        ("checkpoint", "/no/where.pt", "weights"),
    ],
)
def test_invalid_value_is_refused_with_the_expected_one(name, text, expected):
    with pytest.raises(InputError, match=expected) as refused:
        Settings.read({name: text})
    assert f"--conf {name}" in str(refused.value) and text in str(refused.value)


def test_patterns_contain_only_the_given_ones():
    assert Settings.read({"pattern_t1": "*pre*", "pattern_flair": "*fl*"}).patterns == {"t1": "*pre*", "flair": "*fl*"}


def test_persistent_folders_are_in_the_workspace(tmp_path):
    workspace = Workspace(tmp_path)
    assert workspace.labels == tmp_path / "labels"
    for name in ("models", "training", "cache"):
        assert getattr(workspace, name).parent == workspace.state
