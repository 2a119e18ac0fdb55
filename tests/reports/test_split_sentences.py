import pytest

from brats_clip.reports import split_sentences
from brats_clip.reports.sentences import sentence_spans


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("  \n ", []),
        ("One lesion", ["One lesion"]),
        ("A lesion. No oedema.", ["A lesion.", "No oedema."]),
        ("It measures 3.5 cm. It is round.", ["It measures 3.5 cm.", "It is round."]),
        ("About approx. 4 cm wide. Round.", ["About approx. 4 cm wide.", "Round."]),
        ("Size approx. Large? No!", ["Size approx. Large?", "No!"]),
        ("Cysts, necrosis etc. are absent. Fine.", ["Cysts, necrosis etc. are absent.", "Fine."]),
        ("Cysts, necrosis etc. The rest is fine.", ["Cysts, necrosis etc.", "The rest is fine."]),
        ("1. Left frontal.\n2. No oedema.", ["Left frontal.", "No oedema."]),
        ("1) Left frontal\n2) No oedema", ["Left frontal", "No oedema"]),
        ("1. Left frontal lobe. 2. No oedema. 3. Necrosis.", ["Left frontal lobe.", "No oedema.", "Necrosis."]),
        ("- Left frontal\n- no oedema", ["Left frontal", "no oedema"]),
        ("Site: left frontal lobe\nOedema: none", ["Site: left frontal lobe", "Oedema: none"]),
        ("site: left\noedema: none", ["site: left", "oedema: none"]),
        ("The lesion lies in the\nleft frontal lobe. End.", ["The lesion lies in the\nleft frontal lobe.", "End."]),
        ("A lesion; no oedema.", ["A lesion; no oedema."]),
    ],
)
def test_text_is_split_into_sentences(text, sentences):
    assert split_sentences(text) == sentences


def test_semicolons_split_sentences_on_request():
    assert split_sentences("A lesion; no oedema.", semicolons=True) == ["A lesion", "no oedema."]


def test_spans_point_into_the_text():
    text = "1. Left frontal, 3.5 cm.\n2. No oedema."
    assert [text[start:end] for start, end in sentence_spans(text)] == split_sentences(text)
