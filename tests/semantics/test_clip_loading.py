from __future__ import annotations

import json
import logging

import open_clip
import pytest
import torch

from brats_clip.errors import WeightsError
from brats_clip.semantics import load_clip
from brats_clip.semantics.embedded import CONFIG_FILE, ORIGIN_KEY, WEIGHTS_FILE, build_embedded, save_clip


@pytest.fixture
def saved(tiny_config, tmp_path):
    """A folder with a saved CLIP."""
    save_clip(build_embedded(5, tiny_config), tmp_path / "clip", "trained on nothing", tiny_config)
    return tmp_path / "clip"


def test_slices_and_texts_become_unit_vectors_of_equal_length(tiny_clip):
    images, texts = tiny_clip.vision(torch.rand(5, 3, 50, 40)), tiny_clip.encode_texts(["left", "right", ""])
    assert images.shape == (5, 24) and texts.shape == (3, 24) and tiny_clip.embed_dim == 24
    torch.testing.assert_close(torch.cat([images, texts]).norm(dim=1), torch.ones(8))
    assert tiny_clip.encode_texts([]).shape == (0, 24)


def test_images_are_normalised_as_the_clip_was_trained(tiny_clip):
    size = tiny_clip.image_size
    slices = torch.rand(2, 3, size, size)
    by_hand = (slices - 0.15) / 0.2
    expected = torch.nn.functional.normalize(tiny_clip.model.visual(by_hand), dim=-1)
    torch.testing.assert_close(tiny_clip.vision(slices), expected)


def test_large_text_batch_equals_separate_encodings(tiny_clip):
    texts = [f"lesion {n}" for n in range(300)]
    torch.testing.assert_close(tiny_clip.encode_texts(texts)[-1:], tiny_clip.encode_texts(texts[-1:]))


def test_clip_is_frozen_and_in_evaluation_mode(tiny_clip):
    tiny_clip.train()
    assert not any(module.training for module in tiny_clip.modules())
    assert not any(parameter.requires_grad for parameter in tiny_clip.parameters())


def test_saved_folder_loads_with_its_origin(saved, tiny_config):
    clip = load_clip(saved)
    assert "trained on nothing" in clip.describe() and "UNTRAINED" not in clip.describe()
    original = torch.nn.functional.normalize(build_embedded(5, tiny_config).encode_text(clip.tokenizer(["a b"])), dim=1)
    torch.testing.assert_close(clip.encode_texts(["a b"]), original, atol=2e-3, rtol=0)


def test_folder_with_pytorch_weights_loads(saved, tiny_config):
    expected = load_clip(saved).fingerprint
    state = {name: value.half() for name, value in build_embedded(5, tiny_config).state_dict().items()}
    (saved / WEIGHTS_FILE).unlink()
    torch.save(state, saved / "open_clip_pytorch_model.bin")
    assert load_clip(saved).fingerprint == expected


def test_architecture_with_a_checkpoint_file_loads(saved, tiny_config, tmp_path):
    (tmp_path / "tiny-for-tests.json").write_text(json.dumps(tiny_config["model_cfg"]))
    open_clip.add_model_config(tmp_path / "tiny-for-tests.json")
    clip = load_clip(f"tiny-for-tests:{saved / WEIGHTS_FILE}")
    assert clip.fingerprint == load_clip(saved).fingerprint


def test_openai_weights_use_quick_gelu(monkeypatch, tiny_config):
    asked = {}

    def create(name, **options):
        asked.update(options, name=name)
        model = build_embedded(0, tiny_config)
        open_clip.set_model_preprocess_cfg(model, tiny_config["preprocess_cfg"])
        return model

    monkeypatch.setattr(open_clip, "create_model", create)
    load_clip("ViT-B-32:openai")
    assert asked["name"] == "ViT-B-32" and asked["force_quick_gelu"] is True
    load_clip("ViT-B-32:laion2b_s34b_b79k")
    assert asked["force_quick_gelu"] is False


def test_fingerprint_changes_with_one_weight(saved, tiny_config):
    model = build_embedded(5, tiny_config)
    with torch.no_grad():
        model.visual.proj[0, 0] += 0.5
    other = saved.with_name("other")
    save_clip(model, other, "x", tiny_config)
    assert load_clip(saved).fingerprint == load_clip(saved).fingerprint != load_clip(other).fingerprint


def test_untrained_clip_is_labelled_and_logs_a_warning(tiny_config, tmp_path, caplog):
    (tmp_path / CONFIG_FILE).write_text(json.dumps({**tiny_config, ORIGIN_KEY: {"seed": 3}}))
    with caplog.at_level(logging.WARNING):
        clip = load_clip(tmp_path)
    assert "UNTRAINED" in clip.describe() and "seed 3" in clip.describe()
    assert "untrained" in caplog.text


def test_loading_does_not_change_the_random_state(saved):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    load_clip(saved)
    assert torch.rand(1) == expected


def test_missing_folder_is_an_error(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere: found no such folder; expected a folder with open_clip_config"):
        load_clip(tmp_path / "nowhere")


def test_folder_without_weights_is_an_error(saved):
    (saved / WEIGHTS_FILE).unlink()
    with pytest.raises(WeightsError, match="a config without weights"):
        load_clip(saved)


def test_weights_of_another_architecture_are_refused(saved, tiny_config):
    config = json.loads((saved / CONFIG_FILE).read_text())
    config["model_cfg"]["text_cfg"]["layers"] = 5
    (saved / CONFIG_FILE).write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="no usable weights"):
        load_clip(saved)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_broken_config_is_an_error(saved, content):
    (saved / CONFIG_FILE).write_text(content)
    with pytest.raises(WeightsError, match=CONFIG_FILE):
        load_clip(saved)


def test_unknown_architecture_error_suggests_near_names():
    with pytest.raises(WeightsError, match="ViT-B-32"):
        load_clip("ViT-B32:openai")


def test_missing_or_unknown_tag_error_lists_the_tags():
    for source in ("ViT-B-32", "ViT-B-32:none-such"):
        with pytest.raises(WeightsError, match="openai"):
            load_clip(source)


def test_failed_download_error_names_the_offline_alternative(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no route to host")

    monkeypatch.setattr(open_clip, "create_model", fail)
    with pytest.raises(WeightsError, match=r"no route to host.*internet"):
        load_clip("hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224")
