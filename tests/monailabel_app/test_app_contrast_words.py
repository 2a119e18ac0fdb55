"""Tell which of two T1 has contrast agent from what scanners and technicians write in ten languages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from brats_clip.cases.contrast_words import contrast_of
from brats_clip.cases.free_names import assign
from brats_label.studies.dicomweb.series import SeriesHeader
from brats_label.studies.dicomweb.series_choice import choose

BRAIN = SeriesHeader("1", slices=160, slice_mm=1.0, pixel_mm=(1.0, 1.0), image_type=("ORIGINAL", "PRIMARY", "M"))

# The native series first. These pairs were written before the vocabulary that distinguishes them.
PAIRS = [
    ("AX T1 BEFORE CONTRAST", "AX T1 AFTER CONTRAST"),
    ("T1 pre Gd", "T1 post Gd"),
    ("AX T1 native", "AX T1 contrast"),
    ("SAG T1 W/O", "SAG T1 W/"),
    ("Ax T1 FSE -C", "Ax T1 FSE +C"),
    ("T1 C-", "T1 C+"),
    ("T1-C", "T1+C"),
    ("T1_C-", "T1_C+"),
    ("AX T1 NONCON", "AX T1 PC"),
    ("T1 unenhanced", "T1 enhanced"),
    ("T1 WITHOUT FS PRE GAD", "T1 WITHOUT FS POST GAD"),
    ("T1 PRE OP PRE CONTRAST", "T1 PRE OP STEALTH +C"),
    ("T1 plain", "T1 dotarem"),
    ("AX T1 BASELINE", "AX T1 POST INJ"),
    ("t1_mprage vor KM", "t1_mprage nach KM"),
    ("t1_se_tra ohne KM", "t1_se_tra mit KM"),
    ("T1 tra nativ", "T1 tra KM"),
    ("T1 KM-", "T1 KM+"),
    ("T1 vor Kontrastmittelgabe", "T1 nach Kontrastmittelgabe"),
    ("T1 prä KM", "T1 post KM"),
    ("T1 o. KM", "T1 m. KM"),
    ("T1 SE AVANT INJECTION", "T1 SE APRES INJECTION"),
    ("T1 sans injection de gadolinium", "T1 avec injection de gadolinium"),
    ("AX T1 non injecté", "AX T1 injecté"),
    ("T1 sans PDC", "T1 après PDC"),
    ("T1 SIN CONTRASTE", "T1 CON CONTRASTE"),
    ("T1 simple", "T1 con gado"),
    ("T1 antes del contraste", "T1 después del contraste"),
    ("T1 s/c", "T1 c/c"),
    ("AX T1 s/ cte", "AX T1 c/ cte"),
    ("T1 senza mdc", "T1 con mdc"),
    ("T1 prima del m.d.c.", "T1 dopo m.d.c."),
    ("T1 basale", "T1 MDC"),
    ("T1 SEM CONTRASTE", "T1 COM CONTRASTE"),
    ("T1 pré-contraste", "T1 pós-contraste"),
    ("T1 antes da injeção", "T1 após injeção"),
    ("T1 pre", "T1 pos"),
    ("T1 zonder contrast", "T1 met contrast"),
    ("T1 blanco", "T1 na contrast"),
    ("T1 vóór Gd", "T1 na Gd"),
    ("T1 utan kontrast", "T1 med kontrast"),
    ("T1 före kontrast", "T1 efter kontrast"),
    ("T1 uden kontrast", "T1 efter kontraststof"),
    ("T1 før kontrast", "T1 etter kontrast"),
    ("T1 uten KM", "T1 med KM"),
    ("T1 bez kontrastu", "T1 po kontraście"),
    ("T1 przed podaniem kontrastu", "T1 po podaniu kontrastu"),
    ("T1 natywny", "T1 z kontrastem"),
    ("T1 przed KM", "T1 na KM"),
    ("T1 kontrasts\u0131z", "T1 kontrastl\u0131"),
    ("T1 KONTRAST ÖNCESİ", "T1 KONTRAST SONRASI"),
    ("T1 IVKM öncesi", "T1 IVKM sonras\u0131"),
]


def series(uid: str, description: str, **headers) -> SeriesHeader:
    return replace(BRAIN, uid=uid, description=description, **headers)


@pytest.mark.parametrize(("native", "post"), PAIRS)
@pytest.mark.parametrize("order", [1, -1])
def test_descriptions_distinguish_native_t1_from_t1ce(native, post, order):
    choice = choose([series("native", native), series("post", post)][::order])
    found = {sequence: image.image_id for sequence, image in choice.chosen.items()}
    assert found == {"t1": "native", "t1ce": "post"}, choice
    assert not choice.needs_image


@pytest.mark.parametrize(("native", "post"), [pair for pair in PAIRS if not pair[1].endswith("/")])
def test_file_names_distinguish_native_t1_from_t1ce(native, post):
    files = [f"{text.replace('/', '_')}.nii.gz" for text in (native, post)]
    assert assign(files, {}) == {"t1": files[0], "t1ce": files[1]}


@pytest.mark.parametrize(
    "text",
    [
        "AX T1",
        "T1 POST OP DAY 1",
        "T1 preop",
        "T1 PRE OP",
        "T1 nach OP",
        "T1 post RT",
        "T1 without fat sat",
        "T1 sans FS",
        "T1 posterior fossa",
        "T1 w/wo contrast",
        "T1 with and without contrast",
        "T1 mit und ohne KM",
        "T1 sin y con contraste",
        "T1 +/- C",
        "T1 PRE AND POST GD",
        "T1 vor und nach KM",
        "T1 avant et après injection",
        "T1 for stealth",
        "T1 sagital",
    ],
)
def test_missing_or_contradictory_contrast_words_are_undecided(text):
    assert contrast_of(text).answer == ""
