import numpy as np
import pytest

from brats_clip.reports import read_findings
from brats_clip.reports.reading import scale_sizes, volume_of


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("Left frontal mass, 4.5 x 3.2 x 3.0 cm.", {"core": ((45, 32, 30), None)}),
        ("Tumour 45 mm in diameter.", {"core": ((45,), None)}),
        ("The lesion has a volume of approximately 30 ml.", {"core": ((), 30)}),
        ("Mass of up to 5 cm.", {"core": ((50,), None)}),
        ("The tumour measures 4,5 cm.", {"core": ((45,), None)}),
        ("A necrotic core of 12 cc.", {"necrosis": ((), 12)}),
        ("5 mm slices. 3 x 2 cm ring-enhancing lesion in the right temporal lobe.", {"core": ((30, 20), None)}),
        ("Midline shift of 6 mm to the left.", None),
        ("The midline is shifted to the right by 6 mm.", None),
        ("6 mm midline shift and a 4 cm mass.", {"core": ((40,), None)}),
        ("After 10 ml of gadobutrol i.v. the lesion enhances.", None),
        ("Left temporal GBM measuring 52 x 41 mm (previously 38 x 30 mm).", {"core": ((52, 41), None)}),
        ("Mass has grown from 2.1 cm to 3.4 cm.", {"core": ((34,), None)}),
        (
            "Surrounding FLAIR abnormality measures 7.5 x 6 cm, enhancing component 2.5 x 2 cm.",
            {"whole": ((75, 60), None), "enhancement": ((25, 20), None)},
        ),
        ("Size: 3.1 cm AP x 2.8 cm TR x 2.5 cm CC.", {"core": ((31, 28, 25), None)}),
        ("Size: 3.1 (AP) x 2.8 (TR) x 2.5 (CC) cm", {"core": ((31, 28, 25), None)}),
        (
            "Right frontal tumour of 40x35x30mm with 60 ml of vasogenic oedema.",
            {"core": ((40, 35, 30), None), "oedema": ((), 60)},
        ),
        ("The tumor, including edema, spans 8 cm.", {"whole": ((80,), None)}),
        (
            "Enhancing tumor volume: 12.5 cm3; edema volume: 80.2 cm³; necrosis 3.1 cm^3.",
            {"enhancement": ((), 12.5), "oedema": ((), 80.2), "necrosis": ((), 3.1)},
        ),
        ("A 3-4 cm mass.", {"core": ((35,), None)}),
        ("Two lesions: 2.5 cm frontal and 1.2 cm parietal.", {"core": ((25,), None)}),
        ("Cystic component measures 2 x 2 cm.", {"necrosis": ((20, 20), None)}),
        ("The mass lies 2 cm from the ventricle.", None),
        ("Resection cavity of 4 cm. Nodular enhancement of 9 mm along its margin.", {"enhancement": ((9,), None)}),
        ("The lesion measures 35 mm (3.5 cm) in the left frontal lobe.", {"core": ((35,), None)}),
        ("The largest diameter is 48 millimetres; craniocaudal extent 30 mm.", {"core": ((48, 30), None)}),
        ("Oedema extends over 7 cm.", {"whole": ((70,), None)}),
        ("Mass measuring 12 cm2.", None),
        ("Peritumoral oedema extends 2 cm beyond the mass.", None),
    ],
)
def test_sizes_are_read_as_diameters_in_mm_and_volumes_in_ml(text, sizes):
    found = read_findings(text)["sizes"]
    assert (found and {part: (size["mm"], size["ml"]) for part, size in found.items()}) == sizes


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("Multifocal disease with three lesions.", {"multiple": True, "foci": 3}),
        ("Several masses.", {"multiple": True, "foci": None}),
        ("A solitary mass.", {"multiple": False, "foci": 1}),
        ("Multiple patches of high signal.", {"multiple": None}),
        ("Marked oedema.", {"oedema_extent": "marked"}),
        ("Oedema is moderate, mass effect mild.", {"oedema_extent": "moderate", "mass_effect_extent": "mild"}),
        ("No oedema.", {"oedema_extent": "none"}),
        ("Thin rim enhancement.", {"enhancement_pattern": "thin rim"}),
        ("A thick, irregular wall enhances.", {"enhancement_pattern": "thick rim"}),
        ("Ring-enhancing mass.", {"enhancement_pattern": "rim"}),
        ("Heterogeneous enhancement.", {"enhancement_pattern": "patchy"}),
        ("No enhancement.", {"enhancement_pattern": "none"}),
        ("Necrosis of about 60 % of the core.", {"necrosis": True, "necrosis_share": 0.6}),
        ("Cystic mass.", {"cyst": True}),
        ("The mass is not cystic.", {"cyst": False}),
    ],
)
def test_extent_pattern_and_number_are_read(text, values):
    found = read_findings(text)
    assert {name: found[name] for name in values} == values


def test_volume_is_estimated_from_one_to_three_diameters():
    ball = 4 / 3 * np.pi
    assert volume_of("necrosis", (20.0, 20.0, 20.0)) == pytest.approx(ball)
    assert volume_of("core", (20.0,)) < volume_of("core", (20.0, 18.0))
    # An enhancing rim and irregular oedema fill less of their ellipsoid than the core does.
    filled = [volume_of(part, (20.0, 20.0, 20.0)) / ball for part in ("enhancement", "whole", "core")]
    assert filled == sorted(filled) and filled[0] > 0.3 and filled[2] < 1


def test_scaled_sizes_are_read_as_scaled():
    text = "A 3,5 x 2 cm mass with 12 ml of oedema."
    assert read_findings(scale_sizes(text, 2))["sizes"] == {
        "core": {"mm": (70.0, 40.0), "ml": None},
        "oedema": {"mm": (), "ml": 96.0},
    }
