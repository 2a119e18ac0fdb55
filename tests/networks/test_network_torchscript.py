"""The network as TorchScript, the format of MONAI's ckpt_export."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture
def scripted(build_trained):
    return torch.jit.script(build_trained())


def test_scripted_equals_eager(scripted, build_trained, image, report, findings):
    net = build_trained()
    expected = net(image, report_tokens=report, report_findings=findings)
    assert torch.allclose(scripted(image, report_tokens=report, report_findings=findings), expected, atol=1e-5)
    assert not torch.allclose(expected, net(image, report_tokens=report), atol=1e-3)
    for tokens, mask in ((None, None), (report, None), (report, torch.tensor([[True, False, True]]))):
        expected = net(image, report_tokens=tokens, report_mask=mask)
        assert torch.allclose(scripted(image, report_tokens=tokens, report_mask=mask), expected, atol=1e-5)


def test_saved_network_keeps_encode_and_decode(scripted, build_trained, image, report, tmp_path):
    torch.jit.save(scripted, tmp_path / "model.ts")
    loaded = torch.jit.load(tmp_path / "model.ts")
    net = build_trained()
    features = loaded.encode(image)
    decoded = loaded.decode(features, report)
    assert torch.allclose(decoded.logits, net(image, report_tokens=report), atol=1e-5)
    assert torch.allclose(decoded.attention, net.decode(net.encode(image), report).attention, atol=1e-5)
    assert torch.allclose(loaded.decode(features).logits, net(image), atol=1e-5)


def test_every_ablation_can_be_scripted(build, image, switch):
    net = build(**{switch: False})
    assert torch.allclose(torch.jit.script(net)(image), net(image), atol=1e-5)


def test_scripted_network_refuses_invalid_input(build, scripted, image):
    with pytest.raises(torch.jit.Error, match="sides divisible by 16"):
        scripted(image[..., :24])
    with pytest.raises(torch.jit.Error, match="no slice encoder"):
        torch.jit.script(build(slice_encoder=None))(image)


def test_scripted_works_under_autocast(scripted, build_trained, image, report):
    expected = build_trained()(image, report_tokens=report)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = scripted(image, report_tokens=report)
    assert (logits - expected).abs().mean() < 0.05 * expected.std()
