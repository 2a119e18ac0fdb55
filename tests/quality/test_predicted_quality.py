"""Expected Dice, calibrated probabilities and places to check, on hand-made answers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from brats_clip.errors import InputError
from brats_clip.labels import REGIONS
from brats_clip.quality import Circumstances, Geometry, QualityModel, assess, error_map, load_quality
from brats_clip.quality.features import FEATURES
from brats_clip.quality.voxels import error_of_label, region_probabilities

SHAPE = (64, 80, 64)
WORKING = np.diag([1.0, 1.0, 1.0, 1.0])
WORKING[:3, 3] = [-32, -48, -20]
# As BraTS stores it: x to the left, y to the back; 8 voxels larger on each side.
NATIVE = np.diag([-1.0, -1.0, 1.0, 1.0])
NATIVE[:3, 3] = [31 + 8, 31 + 8, -20 - 8]
GEOMETRY = Geometry(WORKING, NATIVE, tuple(size + 16 for size in SHAPE))
BRAIN = torch.ones([size // 2 for size in SHAPE], dtype=torch.bool)
CENTRE = (40, 44, 30)


def ball(centre, radius: float, steep: float = 2.0, top: float = 8.0) -> np.ndarray:
    """Return the logits of a ball: 0 at its border, ``steep`` per mm, at most ``top``."""
    grid = np.ogrid[tuple(slice(0, size) for size in SHAPE)]
    away = np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)))
    return np.clip(steep * (radius - away), -8, top)


def answer(*more: tuple[int, np.ndarray]) -> torch.Tensor:
    """Return the logits of a sharp tumour; ``more`` adds further logits per region by the maximum."""
    logits = np.stack([ball(CENTRE, radius, steep=6) for radius in (18, 11, 7)])
    for region, extra in more:
        logits[region] = np.maximum(logits[region], extra)
    return torch.from_numpy(logits).float()


@pytest.fixture(scope="module")
def sharp():
    return assess(answer(), BRAIN, GEOMETRY, QualityModel())


def test_sharp_answer_is_expected_to_be_better_than_a_blurred_one(sharp):
    blurred = assess(answer() / 12, BRAIN, GEOMETRY, QualityModel())
    for region in REGIONS:
        assert sharp.expected_dice[region] > 0.9 > blurred.expected_dice[region]
        estimate = blurred.regions[region]
        assert 0 <= estimate.dice_low < estimate.dice < estimate.dice_high <= 1
        assert 0 <= estimate.volume_low_ml < estimate.volume_ml < estimate.volume_high_ml


def test_error_that_a_place_covers_makes_no_second_place():
    pieces = np.maximum(ball((12, 14, 30), 6, top=-0.3), ball((12, 37, 30), 3, top=-0.3))  # 23 mm apart
    (place,) = assess(answer((0, pieces)), BRAIN, GEOMETRY, QualityModel()).look_here
    assert place["ml"] > 0.4


def test_sharp_answer_has_no_places_to_check(sharp):
    assert sharp.look_here == []


@pytest.mark.parametrize(
    ("region", "centre", "top", "kind", "answered", "perhaps"),
    [
        (0, (14, 20, 30), 0.3, "false piece", "ED", "background"),
        (0, (14, 20, 30), -0.3, "missed piece", "background", "ED"),
        (1, (40, 31, 30), -0.3, "core against oedema", "ED", "NCR"),
        (1, (40, 31, 30), 0.3, "core against oedema", "NCR", "ED"),
        (2, (40, 36, 30), -0.3, "missed piece", "NCR", "ET"),
    ],
)
def test_uncertain_piece_is_the_first_place_with_its_kind(region, centre, top, kind, answered, perhaps):
    logits = answer((region, ball(centre, 6, top=top)))
    found = assess(logits, BRAIN, GEOMETRY, QualityModel())
    place = found.look_here[0]
    assert (place["region"], place["kind"]) == ([*REGIONS][region], kind)
    assert (place["answered"], place["perhaps"]) == (answered, perhaps)
    away = np.linalg.norm(np.subtract(place["ras_mm"], (WORKING @ [*centre, 1])[:3]))
    assert away < 6 and place["ml"] > 0.1 and 0.2 < place["probability"] < 0.6
    assert json.loads(json.dumps(found.to_dict()))["look_here"][0] == place


def test_place_is_in_the_coordinates_of_the_case():
    centre = (14, 20, 30)
    place = assess(answer((0, ball(centre, 6, top=0.3))), BRAIN, GEOMETRY, QualityModel()).look_here[0]
    assert np.allclose((NATIVE @ [*place["voxel"], 1])[:3], place["ras_mm"])
    assert place["slices"] == dict(zip(("sagittal", "coronal", "axial"), (v + 1 for v in place["voxel"]), strict=True))
    assert place["where"].startswith("left ") and f"slice {place['voxel'][2] + 1}: about" in place["text"]
    assert place["text"].endswith("ml of oedema may be no tumour")


def test_at_most_three_places_are_listed_away_from_clicks():
    spots = [(12, 16, 16), (12, 66, 16), (52, 12, 50), (12, 40, 52)]
    logits = answer(*((0, ball(spot, 7 - i, top=0.2)) for i, spot in enumerate(spots)))
    places = assess(logits, BRAIN, GEOMETRY, QualityModel()).look_here
    assert len(places) == 3 and places == sorted(places, key=lambda place: -place["dice_at_stake"])
    clicked = assess(logits, BRAIN, GEOMETRY, QualityModel(), clicks=np.array([spots[0]])).look_here
    first = np.array((WORKING @ [*spots[0], 1])[:3])
    assert np.linalg.norm(np.subtract(places[0]["ras_mm"], first)) < 6
    assert all(np.linalg.norm(np.subtract(place["ras_mm"], first)) > 5 for place in clicked)


@pytest.mark.parametrize("logits", [torch.full((3, *SHAPE), -9.0), torch.full((3, *SHAPE), float("nan"))])
def test_answer_without_tumour_is_assessed(logits):
    found = assess(logits, BRAIN, GEOMETRY, QualityModel())
    assert found.look_here == [] and all(0 <= dice <= 1 for dice in found.expected_dice.values())
    json.dumps(found.to_dict(), allow_nan=False)


def test_missing_sequences_and_report_disagreement_are_features():
    known = Circumstances(("t1ce",), 0.25)
    rows = assess(answer(), BRAIN, GEOMETRY, QualityModel(), known).features
    named = dict(zip(FEATURES, rows[0].tolist(), strict=True))
    assert (named["no_t1ce"], named["no_flair"], named["disagrees"]) == (1, 0, 0.75)


def test_edge_is_the_step_of_the_log_odds_across_the_border():
    def edges(steep: float) -> dict[str, float]:
        logits = answer() * steep
        logits[2] = -8.0  # no ET
        rows = assess(logits, BRAIN, GEOMETRY, QualityModel()).features
        return dict(zip(REGIONS, rows[:, FEATURES.index("edge")].tolist(), strict=True))

    vague, sharp = edges(0.1), edges(0.5)
    assert 0 < 2 * vague["WT"] < sharp["WT"] and 0 < 2 * vague["TC"] < sharp["TC"]
    assert vague["ET"] == sharp["ET"] == 0


def test_unfitted_probabilities_are_the_networks_own_and_nested():
    logits = answer()
    logits[2] += 3
    found = region_probabilities(logits, QualityModel().voxels)
    assert torch.allclose(found[0], torch.sigmoid(logits[0])) and (found[1] <= found[0]).all()
    assert (found[2] <= found[1]).all()


def test_error_probability_is_one_minus_that_of_the_label():
    probabilities = torch.tensor([0.9, 0.6, 0.5]).view(3, 1, 1, 1)
    for value, error in ((0, 0.9), (2, 0.7), (1, 0.9), (4, 0.5)):
        assert error_of_label(probabilities, torch.full((1, 1, 1), value)).item() == pytest.approx(error)
    errors = error_map(answer(), QualityModel(), 0.001)
    assert errors.shape == (1, *SHAPE) and errors.max() <= 0.75
    border = (CENTRE[0] + 18, CENTRE[1], CENTRE[2])
    assert errors[(0, *border)] > 0.3 > errors[(0, *CENTRE)]


class TestFile:
    """The JSON file of the quality model beside the weights."""

    @pytest.fixture
    def files(self, tmp_path):
        weights, path = tmp_path / "model.pt", tmp_path / "quality.json"
        weights.write_bytes(b"weights")
        digest = "9b6e2a5cbd4a2f39a8c3f2d1e0b7c6d5"
        model = QualityModel(dice=((0.5, *[0.1] * len(FEATURES)),) * 3, weights_sha256=digest)
        path.write_text(json.dumps(model.to_json()))
        return weights, path, model

    def test_file_for_other_weights_is_flagged_as_not_fitted(self, files):
        weights, path, model = files
        read = load_quality(path, weights, 0.2, 0.05, 0.0)
        assert [list(row) for row in read.dice] == [list(row) for row in model.dice]
        assert not read.fitted and read.least_ml == (0.2, 0.05, 0.0)
        found = assess(answer(), BRAIN, GEOMETRY, read).to_dict()
        assert found["quality"]["fitted"] is False and "not fitted for these weights" in found["quality"]["note"]

    def test_file_for_its_weights_is_fitted(self, files):
        from brats_clip.evaluation import sha256_of

        weights, path, model = files
        path.write_text(json.dumps(model.to_json() | {"weights_sha256": sha256_of(weights)}))
        read = load_quality(path, weights)
        assert read.fitted and "note" not in assess(answer(), BRAIN, GEOMETRY, read).to_dict()["quality"]

    def test_file_beside_it_is_used_for_the_weights_it_was_fitted_for(self, files):
        from brats_clip.evaluation import sha256_of

        weights, path, model = files
        other = model.to_json() | {"weights_sha256": sha256_of(weights), "dice": [[0.7] * (1 + len(FEATURES))] * 3}
        path.with_name("quality_other.json").write_text(json.dumps(other))
        read = load_quality(path, weights)
        assert read.fitted and read.dice[0][0] == 0.7
        path.with_name("quality_other.json").write_text(json.dumps(other | {"format": 9}))
        with pytest.raises(InputError, match=r"quality_other\.json"):
            load_quality(path, weights)
        path.with_name("quality_other.json").write_text("{")  # of unknown weights: not used
        assert not load_quality(path, weights).fitted

    def test_missing_file_gives_the_default_model(self, tmp_path):
        assert load_quality(tmp_path / "none.json", tmp_path / "model.pt") == QualityModel()

    @pytest.mark.parametrize(
        "change", [{"format": 9}, {"features": ["size"]}, {"dice": [[1.0]] * 3}, {"voxels": [["a", 1, 2, 3]] * 3}]
    )
    def test_file_of_another_format_is_refused(self, files, change):
        weights, path, model = files
        path.write_text(json.dumps(model.to_json() | change))
        with pytest.raises(InputError, match=r"quality\.json: found .*expected a file of scripts/fit_quality\.py"):
            load_quality(path, weights)

    def test_file_that_is_not_json_is_refused(self, files):
        weights, path, _ = files
        path.write_text("{")
        with pytest.raises(InputError, match=r"quality\.json"):
            load_quality(path, weights)
