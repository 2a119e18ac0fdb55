"""The exported file needs only torch and gives the output of the Python network."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

pytestmark = pytest.mark.slow

USE_WITH_TORCH_ALONE = """
import sys, torch
path, inputs, outputs = sys.argv[1:]
net = torch.jit.load(path)
data = torch.load(inputs)
image, report = data["image"], data["report"]
features = net.encode(image)
answers = {
    "alone": net(image),
    "report": net(image, report_tokens=report),
    "decoded": net.decode(features, report).logits,
    "attention": net.decode(features, report).attention,
}
torch.save(answers, outputs)
assert not {"monai", "open_clip", "brats_clip", "ignite"} & set(sys.modules), "more than torch was needed"
"""


@pytest.fixture(scope="module", params=["repository", "bundle"])
def exported(request, command, configs, tiny_network, tiny_weights, tmp_path_factory):
    """The file that ``ckpt_export`` writes when it is run from either folder."""
    path = tmp_path_factory.mktemp("export") / "model.ts"
    inside = request.param == "bundle"
    folder = "configs" if inside else "bundle/configs"
    result = command(
        "ckpt_export",
        "network_def",
        cwd=configs.parent if inside else configs.parents[1],
        path="." if inside else "bundle",
        filepath=path,
        ckpt_file=tiny_weights,
        config_file=f"{folder}/inference.json",
        meta_file=f"{folder}/metadata.json",
        **tiny_network,
    )
    assert result.returncode == 0, result.stderr
    return path


def test_export_needs_only_torch_and_gives_equal_output(exported, build_network, tiny_network, tiny_weights, tmp_path):
    network = build_network(**tiny_network, trained=False).eval()
    network.load_state_dict(torch.load(tiny_weights))
    draw = torch.Generator().manual_seed(5)
    image = torch.randn(1, 4, 48, 32, 64, generator=draw)
    report = F.normalize(torch.randn(1, 3, network.semantic_dim, generator=draw), dim=2)
    torch.save({"image": image, "report": report}, tmp_path / "in.pt")
    line = [sys.executable, "-c", USE_WITH_TORCH_ALONE, exported, tmp_path / "in.pt", tmp_path / "out.pt"]
    subprocess.run(line, check=True, cwd=tmp_path, timeout=300)
    answers = torch.load(tmp_path / "out.pt")
    with torch.no_grad():
        decoded = network.decode(network.encode(image), report)
        expected = {"alone": network(image), "report": decoded.logits, "decoded": decoded.logits}
    for name, logits in expected.items():
        assert torch.allclose(answers[name], logits, atol=1e-4), name
    assert torch.allclose(answers["attention"], decoded.attention, atol=1e-4)
    assert not torch.allclose(answers["alone"], answers["report"], atol=1e-2)


def test_exported_file_contains_config_and_metadata(exported):
    extra = {"inference.json": "", "metadata.json": ""}
    torch.jit.load(exported, _extra_files=extra)
    assert b"ReportGuidedUNet" in extra["inference.json"] and b"whole tumour" in extra["metadata.json"]
