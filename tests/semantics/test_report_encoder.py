from __future__ import annotations

import torch

from brats_clip.semantics import encode_report, region_embeddings
from brats_clip.semantics.report_encoder import split_to_fit


def test_report_gives_one_token_per_sentence_in_order(tiny_clip):
    tokens = encode_report("There is a lesion in the left frontal lobe. No necrosis is seen.", tiny_clip)
    assert tokens.shape == (2, tiny_clip.embed_dim)
    torch.testing.assert_close(tokens[1:], encode_report("No necrosis is seen.", tiny_clip))


def test_empty_report_has_no_tokens(tiny_clip):
    for text in ("", "  \n "):
        assert encode_report(text, tiny_clip).shape == (0, tiny_clip.embed_dim)


def test_last_word_of_a_long_report_without_a_full_stop_is_encoded(tiny_clip):
    words = ["oedema around the lesion"] * 100
    left, right = (encode_report(" ".join([*words, side]), tiny_clip) for side in ("left", "right"))
    assert len(left) == len(right) > 4
    torch.testing.assert_close(left[:-1], right[:-1])
    assert not torch.allclose(left[-1], right[-1], atol=1e-3)


def test_every_word_of_a_long_sentence_is_kept_in_order(tiny_clip):
    words = [f"word{n}" + (", " if n % 9 == 0 else "; " if n % 31 == 0 else " ") for n in range(400)]
    text = "".join(words)
    pieces = split_to_fit(text, tiny_clip.fits)
    assert " ".join(pieces).split() == text.split()
    assert all(tiny_clip.fits(piece) for piece in pieces)


def test_long_sentence_is_split_after_clauses_before_words():
    pieces = split_to_fit("one two three, four five six, seven", lambda piece: len(piece.split()) <= 4)
    assert pieces == ["one two three,", "four five six, seven"]


def test_word_longer_than_the_context_is_split_without_loss(tiny_clip):
    word = "qzxj" * 200
    pieces = split_to_fit(f"start {word} end", tiny_clip.fits)
    assert "".join(pieces).replace(" ", "") == f"start{word}end"
    assert all(tiny_clip.fits(piece) for piece in pieces)


def test_regions_have_three_different_unit_embeddings(tiny_clip):
    regions = region_embeddings(tiny_clip)
    assert regions.shape == (3, tiny_clip.embed_dim)
    torch.testing.assert_close(regions.norm(dim=1), torch.ones(3))
    assert torch.pdist(regions).min() > 1e-3


def test_known_sentences_are_not_encoded_again(tiny_clip, monkeypatch):
    encoded, encode = [], tiny_clip.encode_texts
    monkeypatch.setattr(tiny_clip, "encode_texts", lambda texts: encoded.extend(texts) or encode(texts))
    known = {}
    encode_report("A lesion on the left. No necrosis.", tiny_clip, known)
    changed = encode_report("No necrosis. A lesion on the right.", tiny_clip, known)
    assert encoded == ["A lesion on the left.", "No necrosis.", "A lesion on the right."]
    torch.testing.assert_close(changed, encode_report("No necrosis. A lesion on the right.", tiny_clip))


def test_cache_of_sentences_is_bounded_and_evicts_the_oldest(tiny_clip, monkeypatch):
    monkeypatch.setattr("brats_clip.semantics.report_encoder.KNOWN_SENTENCES", 2)
    known = {}
    tokens = encode_report("One. Two. Three.", tiny_clip, known)
    assert len(tokens) == 3 and list(known) == ["Two.", "Three."]
