"""Versions of the weights: published atomically, used at once, never lost."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal

import pytest
import torch

from brats_clip.errors import WeightsError
from brats_label import models, store
from brats_label.errors import NotFound
from brats_label.models import ModelRegistry, as_json
from brats_label.store import Store


def weights(path, value: float):
    torch.save({"weight": torch.full((3,), value)}, path)
    return path


@pytest.fixture
def bundled(tmp_path):
    (tmp_path / "bundle" / "models").mkdir(parents=True)
    (tmp_path / "bundle" / "configs").mkdir()
    facts = {"version": "0.2.0", "eval_metrics": {"dice_WT": 0.9}}
    (tmp_path / "bundle" / "configs" / "metadata.json").write_text(json.dumps(facts))
    return weights(tmp_path / "bundle" / "models" / "model.pt", 0.0)


@pytest.fixture
def registry(tmp_path, bundled) -> ModelRegistry:
    return ModelRegistry(tmp_path / "models", bundled, Store(tmp_path / "store.db"))


def publish(registry, tmp_path, value: float, **more):
    facts = {"metrics": {"mean": value}, "trained_on": {"training": ["A"]}}
    return registry.publish(weights(tmp_path / "new.pt", value), **facts, **more)


def test_bundle_weights_are_current_at_first(registry, bundled):
    version = registry.current()
    assert (version.number, version.name, version.path, version.parent) == (0, "0.2.0", bundled, None)
    assert version.metrics == {"dice_WT": 0.9} and len(version.sha256) == 64
    assert registry.versions() == [version]
    assert not registry.folder.exists()


def test_weights_without_a_bundle_are_named_by_their_content(tmp_path):
    version = ModelRegistry(tmp_path / "models", weights(tmp_path / "mine.pt", 3.0)).current()
    assert version.name == f"own.{version.sha256[:8]}"


def test_published_version_is_a_copy_and_becomes_current(registry, tmp_path, bundled):
    before = bundled.read_bytes()
    version = publish(registry, tmp_path, 0.5)
    (tmp_path / "new.pt").unlink()
    assert version == registry.current() == ModelRegistry(registry.folder, bundled, registry.store).current()
    assert (version.number, version.name, version.parent) == (1, "0.2.0+site.1", 0)
    assert version.metrics == {"mean": 0.5} and version.trained_on == {"training": ["A"]}
    assert torch.load(version.path)["weight"].tolist() == [0.5] * 3
    assert bundled.read_bytes() == before
    assert "path" not in as_json(version) and json.dumps(as_json(version))


def test_use_rolls_back_and_forward(registry, tmp_path):
    publish(registry, tmp_path, 0.5)
    publish(registry, tmp_path, 0.6)
    assert registry.use(0).number == registry.current().number == 0
    assert registry.use(2).number == registry.current().number == 2
    assert [v.number for v in registry.versions()] == [0, 1, 2]
    assert registry.named("0.2.0+site.1").number == 1
    with pytest.raises(NotFound, match="there are 0, 1, 2"):
        registry.use(7)
    with pytest.raises(NotFound, match=r"0\.2\.0\+site\.2"):
        registry.named("0.9")
    assert registry.current().number == 2


def test_version_trained_from_an_older_one_has_its_parent_and_a_new_number(registry, tmp_path):
    publish(registry, tmp_path, 0.5)
    publish(registry, tmp_path, 0.6)
    registry.use(1)
    assert publish(registry, tmp_path, 0.7).parent == 1
    version = publish(registry, tmp_path, 0.8, parent=0)
    assert (version.number, version.parent, version.name) == (4, 0, "0.2.0+site.4")


def test_publishing_the_same_weights_again_makes_no_second_version(registry, tmp_path):
    first = publish(registry, tmp_path, 0.5)
    registry.use(0)
    assert publish(registry, tmp_path, 0.5) == first == registry.current()
    assert len(registry.versions()) == 2


def test_version_number_is_never_reused(registry, tmp_path):
    publish(registry, tmp_path, 0.5)
    publish(registry, tmp_path, 0.6)
    registry.use(0)
    shutil.rmtree(registry.folder / "0002")
    assert publish(registry, tmp_path, 0.7).name == "0.2.0+site.3"


@pytest.mark.parametrize("content", [b"", b"<html>no weights</html>"])
def test_file_without_weights_is_not_published(registry, tmp_path, content):
    (tmp_path / "new.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=r"new\.pt"):
        registry.publish(tmp_path / "new.pt", {}, {})
    assert registry.current().number == 0 and len(registry.versions()) == 1


def test_weights_changed_after_publication_cannot_be_used(registry, tmp_path):
    version = publish(registry, tmp_path, 0.5)
    registry.use(0)
    weights(version.path, 0.9)
    with pytest.raises(WeightsError, match="another content than was published"):
        registry.use(1)
    assert registry.current().number == 0


def test_missing_current_weights_are_named_and_others_can_be_used(registry, tmp_path):
    publish(registry, tmp_path, 0.5)
    shutil.move(registry.folder / "0001", tmp_path / "away")
    with pytest.raises(WeightsError, match=r"0001/model\.pt: found no file; expected the weights 0\.2\.0\+site\.1"):
        registry.current()
    assert registry.use(0) == registry.current()
    shutil.move(tmp_path / "away", registry.folder / "0001")
    assert registry.use(1) == registry.current()
    assert publish(registry, tmp_path, 0.6).number == 2


def test_a_version_without_weights_hides_no_other(registry, tmp_path, caplog):
    publish(registry, tmp_path, 0.5)
    publish(registry, tmp_path, 0.6)
    (registry.folder / "0001" / "model.pt").unlink()
    assert [v.number for v in registry.versions()] == [0, 2]
    assert "0001" in caplog.text


def test_weights_without_a_record_are_not_overwritten(registry, tmp_path):
    before = publish(registry, tmp_path, 0.5).path.read_bytes()
    with registry.store.write() as connection:
        connection.execute(store.weights.delete())
        connection.execute(store.weights_uses.delete())
    assert registry.current().number == 0
    assert publish(registry, tmp_path, 0.6).number == 2
    assert (registry.folder / "0001" / "model.pt").read_bytes() == before


def test_changed_bundle_weights_are_detected(registry, bundled):
    before = registry.current().sha256
    weights(bundled, 5.0)
    os.utime(bundled, ns=(1, 1))
    assert registry.current().sha256 != before


def die_while(step: str, registry, tmp_path) -> None:
    """Publish, and kill this process at ``step``."""
    real = getattr(models, step)

    def killed(what, *rest):
        if step == "sync" or what in (store.weights, store.weights_uses):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(what, *rest)

    setattr(models, step, killed)
    publish(registry, tmp_path, 0.5)


@pytest.mark.parametrize("step", ["sync", "insert"])
def test_kill_while_publishing_keeps_the_current_version_and_can_be_repeated(registry, tmp_path, step):
    process = multiprocessing.get_context("fork").Process(target=die_while, args=(step, registry, tmp_path))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert registry.current().number == 0
    version = publish(registry, tmp_path, 0.5)
    assert version.number == 1 and registry.current() == version
    assert sorted(p.name for p in registry.folder.iterdir()) == ["0001"]


def publish_each(registry, tmp_path, values):
    for value in values:
        registry.publish(weights(tmp_path / f"{value}.pt", value), {}, {})


def test_concurrent_processes_lose_no_version(registry, tmp_path):
    context = multiprocessing.get_context("fork")
    values = [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
    processes = [context.Process(target=publish_each, args=(registry, tmp_path, some)) for some in values]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        registry.current()
    assert [v.number for v in registry.versions()] == list(range(7))
    assert len({v.sha256 for v in registry.versions()}) == 7
