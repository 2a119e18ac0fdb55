import json

import numpy as np
import pytest

from brats_clip.errors import InputError
from brats_clip.reports import Findings


def test_findings_survive_a_round_trip_through_json(random_findings):
    rng = np.random.default_rng(0)
    for findings in [Findings(), *(random_findings(rng) for _ in range(50))]:
        assert Findings.from_dict(json.loads(json.dumps(findings.to_dict()))) == findings


def test_findings_are_hashable_and_frozen():
    findings = Findings(side="left", lobes=["frontal"])
    assert findings.lobes == ("frontal",)
    assert len({findings, Findings(side="left", lobes=("frontal",))}) == 1
    with pytest.raises(AttributeError):
        findings.side = "right"


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"side": "middle"}, "side"),
        ({"enhancement": "ring"}, "enhancement"),
        ({"oedema": "huge"}, "oedema"),
        ({"mass_effect": "some"}, "mass_effect"),
        ({"side": "left", "lobes": ("frontal lobe",)}, "lobes"),
        ({"side": "left", "lobes": "frontal"}, "lobes"),
        ({"side": "left"}, "lobes"),
        ({"wt_ml": -1.0}, "wt_ml"),
        ({"oedema_ratio": float("inf")}, "oedema_ratio"),
        ({"volume": 3}, "volume"),
        ({"core_axes_mm": (10, 20)}, "core_axes_mm"),
        ({"whole_axes_mm": (10, 20, -1)}, "whole_axes_mm"),
    ],
)
def test_invalid_value_error_names_the_field(values, named):
    with pytest.raises(InputError, match=named):
        Findings.from_dict(values)


def test_core_without_enhancement_is_plain_core_and_not_necrosis():
    assert Findings(ncr_ml=5.0).plain_core_ml == 5.0
    assert Findings(ncr_ml=5.0, necrosis=True).plain_core_ml == 0.0
