from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from brats_clip.reports import Findings
from brats_clip.semantics import load_clip
from brats_clip.semantics.attributes import attribute_slices, attribute_targets
from brats_clip.semantics.contrastive import ContrastiveClip, ContrastiveLoss

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"


@pytest.fixture
def data_set(tmp_path, brain):
    """Six small cases, one of them without findings, in a datalist."""
    entries = []
    for n in range(6):
        name, folder = f"CASE_{n}", tmp_path / "data" / f"CASE_{n}"
        folder.mkdir(parents=True)
        ball = (12 if n % 2 else 36, 24, 20)
        image = brain((48, 48, 40), ball=ball, radius=6, seed=n)[0].numpy()
        label = np.zeros((48, 48, 40), np.uint8)
        label[tuple(slice(c - 4, c + 4) for c in ball)] = 2
        entry = {"case": name, "report": f"Lesion on the {'left' if n % 2 else 'right'}. No enhancement."}
        for kind, array in zip(("t1", "t1ce", "t2", "flair"), (image - image.min()) * (image != 0), strict=True):
            nib.save(nib.Nifti1Image(array.astype(np.float32), np.eye(4)), folder / f"{name}_{kind}.nii.gz")
            entry[kind] = f"{name}/{name}_{kind}.nii.gz"
        nib.save(nib.Nifti1Image(label, np.eye(4)), folder / f"{name}_seg.nii.gz")
        if n:
            entry["label"] = f"{name}/{name}_seg.nii.gz"
        entries.append(entry)
    (tmp_path / "data" / "datalist.json").write_text(json.dumps({"training": entries[:4], "validation": entries[4:]}))
    return tmp_path / "data"


@pytest.mark.slow
def test_pretraining_of_the_bundle_saves_a_clip_that_loads(data_set, tmp_path):
    workflow = ConfigWorkflow(
        config_file=str(BUNDLE / "configs" / "pretrain_clip.json"),
        init_id="initialize",
        run_id="pretraining",
        bundle_root=str(BUNDLE),
        dataset_dir=str(data_set),
        output_dir=str(tmp_path / "run"),
        clip_dir=str(tmp_path / "clip"),
        device="$torch.device('cpu')",
        epochs=2,
        val_interval=1,
        batch_size=4,
        progress_bar=False,
    )
    workflow.initialize()
    workflow.run()
    clip = load_clip(tmp_path / "clip")
    assert "synthetic patients" in clip.describe() and clip.image_size == 96
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_training_learns_to_distinguish_left_from_right(tiny_config):
    torch.manual_seed(0)
    network = ContrastiveClip(0, tiny_config)
    optimizer, loss = torch.optim.AdamW(network.parameters(), lr=6e-3), ContrastiveLoss()
    sides = ["left", "right"] * 8
    targets = torch.stack([attribute_targets(Findings(side=s, lobes=("frontal",), wt_ml=1.0)) for s in sides])
    slices = torch.rand(16, 2, 3, 32, 32) * 0.2
    for n, side in enumerate(sides):
        slices[n, :, :, 10:20, slice(4, 12) if side == "left" else slice(20, 28)] += 0.7
    ids = network.tokenizer([f"mass in the {side} hemisphere" for side in sides])[:, None, :12]
    mask = torch.ones(16, 1, dtype=torch.bool)
    side = attribute_slices()["side"]

    def nearest(kind: str) -> list[int]:
        with torch.no_grad():
            prediction = network.eval()(slices, ids, mask)
        return (prediction[kind] @ prediction["prompts"][side].T).argmax(dim=1).tolist()

    for step in range(1, 241):
        optimizer.zero_grad()
        loss(network.train()(slices, ids, mask), {"image": targets, "text": targets}).backward()
        optimizer.step()
        if step % 20 == 0 and nearest("image") == nearest("text") == [0, 1] * 8:
            return
    assert (nearest("image"), nearest("text")) == ([0, 1] * 8, [0, 1] * 8)
