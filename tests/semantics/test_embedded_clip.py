from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from brats_clip.semantics import EMBEDDED_CLIP, load_clip
from brats_clip.semantics import embedded as embedded_module
from brats_clip.semantics.embedded import WEIGHTS_FILE, build_embedded, save_clip, zero_unseen_embeddings


def test_weights_depend_only_on_the_seed(tiny_config):
    torch.manual_seed(0)
    first = build_embedded(7, tiny_config).state_dict()
    torch.manual_seed(1)
    again, other = build_embedded(7, tiny_config).state_dict(), build_embedded(8, tiny_config).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["visual.conv1.weight"], other["visual.conv1.weight"])


def test_shipped_clip_loads():
    clip = load_clip(EMBEDDED_CLIP)
    assert clip.image_size == 96 and clip.embed_dim == 128 and clip.context_length == 77


def test_saved_embedded_clip_stays_below_25_mb(tmp_path):
    paths = save_clip(build_embedded(0), tmp_path, "test")
    assert paths["weights"].stat().st_size < 25e6
    assert all(value.dtype == torch.float16 for value in load_file(paths["weights"]).values())


def test_weights_have_the_file_mode_of_the_config(tmp_path, tiny_config):
    paths = save_clip(build_embedded(0, tiny_config), tmp_path, "test", tiny_config)
    assert paths["weights"].stat().st_mode == paths["config"].stat().st_mode


def test_integer_buffers_are_not_saved_in_half_precision(tmp_path, tiny_config):
    model = {**tiny_config["model_cfg"], "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}}
    config = {**tiny_config, "model_cfg": model}
    network = build_embedded(0, config)
    network.visual.bn1.num_batches_tracked += 4099  # more than half precision can count
    save_clip(network, tmp_path, "test", config)
    assert load_clip(tmp_path).model.visual.bn1.num_batches_tracked == 4099


def test_silencing_unseen_tokens_does_not_change_seen_ones(tiny_config, tiny_clip):
    model = build_embedded(3, tiny_config)
    ids = tiny_clip.tokenizer(["lesion in the left frontal lobe"])
    before = model.encode_text(ids)
    zeroed = zero_unseen_embeddings(model, ids.unique().tolist())
    assert zeroed == 49408 - len(ids.unique())
    torch.testing.assert_close(model.encode_text(ids), before)
    unknown = [model.encode_text(tiny_clip.tokenizer([f"lesion in the left {word} lobe"])) for word in ("cat", "dog")]
    torch.testing.assert_close(unknown[0], unknown[1])


def test_failed_save_leaves_the_old_weights(tmp_path, tiny_config, monkeypatch):
    save_clip(build_embedded(1, tiny_config), tmp_path, "old", tiny_config)
    before = (tmp_path / WEIGHTS_FILE).read_bytes()

    def half_written(_, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(embedded_module, "save_file", half_written)
    with pytest.raises(OSError, match="disk full"):
        save_clip(build_embedded(2, tiny_config), tmp_path, "new", tiny_config)
    assert (tmp_path / WEIGHTS_FILE).read_bytes() == before
    assert "old" in load_clip(tmp_path).describe()
