"""The complete network: its switches, its outputs, and the split into encode and decode."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from brats_clip.errors import InputError
from brats_clip.networks import Decoded, ReportGuidedUNet
from brats_clip.precision import cpu_has_bf16

ALL_OFF = dict.fromkeys(
    ("pixel_fusion", "attention", "deep_supervision", "bridge", "guidance", "semantic_attention", "findings"), False
)
PARTS = {
    "pixel_fusion": ("pixel_fusion.",),
    "attention": (".attention.", ".gate."),
    "deep_supervision": ("deep.",),
    "bridge": ("bridge.", "slice_encoder."),
    "guidance": ("guidance.", "memory.", "modulation."),
    "semantic_attention": ("semantic_attention.",),
    "findings": (".findings.",),
    "clicks": ("clicks.",),
}
CLICK = {"clicks": torch.tensor([[[16.0, 16.0, 16.0]]]), "click_targets": torch.tensor([[[1.0, 1.0, -1.0]]])}


def names_of(net, switch):
    """Return the names of the parameters that a switch controls."""
    names = [name for name, _ in net.named_parameters() if any(part in f".{name}" for part in PARTS[switch])]
    if switch == "attention":  # guidance and findings have their own gates and attention
        names = [n for n in names if "guidance" not in n and not n.startswith("findings.")]
    return names


def loss_of(decoded: Decoded) -> torch.Tensor:
    outputs = (decoded.unstated, decoded.logits, decoded.attention, decoded.refined, *decoded.deep)
    return sum(out.square().sum() for out in outputs)


def test_switch_off_leaves_no_parameter_of_the_part(build, switch):
    assert names_of(build(), switch)
    assert not names_of(build(**{switch: False}), switch)


def test_switch_on_gives_every_parameter_of_the_part_an_effect(build_trained, image, report, findings, switch):
    net = build_trained().train()
    loss_of(net(image, report_tokens=report, report_findings=findings, **CLICK)).backward()
    parameters = dict(net.named_parameters())
    trained = [n for n in names_of(net, switch) if parameters[n].requires_grad]
    idle = [n for n in trained if not parameters[n].grad.any()]
    # A key's bias adds a constant to all scores, which softmax cancels.
    assert trained and all(n.endswith(("key.bias", "relevance.bias")) for n in idle)


def test_switch_changes_the_output(build_trained, image, report, findings, switch):
    net, without = build_trained().train(), build_trained(**{switch: False}).train()
    shared, state = without.state_dict(), net.state_dict()
    fitting = {n: v for n, v in state.items() if n in shared and shared[n].shape == v.shape}
    without.load_state_dict(fitting, strict=False)
    stated = {"report_tokens": report, "report_findings": findings}
    a = net(image, **stated, **CLICK)
    b = without(image, **stated, **(CLICK if without.clicks is not None else {}))
    if switch == "deep_supervision":
        assert len(a.deep) == 2 and not b.deep and torch.equal(a.logits, b.logits)
    else:
        assert torch.equal(a.logits, b.logits) == (switch == "clicks")
        assert not torch.allclose(a.refined, b.refined, atol=1e-3)


def test_all_off_is_a_plain_network_that_ignores_tokens(build, image, report):
    net = build(**ALL_OFF)
    kinds = {type(m).__name__ for m in net.modules() if not list(m.children())}
    assert kinds <= {"Conv3d", "ConvTranspose3d", "Linear", "SampleNorm", "ModuleList"}
    assert torch.equal(net(image), net(image, report_tokens=report))


def test_untrained_network_ignores_the_report_and_the_slices(build, image, report):
    net = build()
    tokens, positions = net.slice_encoder(image)
    expected = net(image)
    assert torch.equal(net(image, report_tokens=report), expected)
    assert torch.equal(net(image, 2 * tokens.flip(2), positions), expected)


def test_trained_network_uses_the_report_and_the_slices(build_trained, image, report):
    net = build_trained()
    tokens, positions = net.slice_encoder(image)
    expected = net(image)
    assert (net(image, report_tokens=report) - expected).abs().max() > 0.01
    assert (net(image, tokens.flip(2), positions) - expected).abs().max() > 0.001
    elsewhere = positions * torch.tensor([1.0, 0.3])
    assert (net(image, tokens, elsewhere) - expected).abs().max() > 0.001


@pytest.mark.parametrize("padding", [0.0, 7.0, float("nan")])
def test_padding_tokens_have_no_influence(build_trained, image, report, padding):
    net = build_trained()
    padded = torch.cat([report, torch.full((1, 4, report.shape[2]), padding)], dim=1)
    mask = torch.arange(7)[None] < 3
    assert torch.allclose(
        net(image, report_tokens=padded, report_mask=mask), net(image, report_tokens=report), atol=1e-5
    )


def test_empty_and_fully_masked_reports_equal_no_report(build_trained, image, report):
    net = build_trained()
    expected = net(image)
    assert torch.equal(net(image, report_tokens=report[:, :0]), expected)
    assert torch.equal(
        net(image, report_tokens=report[:, :0], report_mask=torch.zeros(1, 0, dtype=torch.bool)), expected
    )
    masked = net(image, report_tokens=report, report_mask=torch.zeros(1, 3, dtype=torch.bool))
    assert torch.allclose(masked, expected, atol=1e-5)


def test_batch_with_and_without_reports_equals_its_samples(build_trained, image, report):
    net = build_trained()
    images = torch.cat([image, image.flip(2)])
    mask = torch.tensor([[True, True, True], [False, False, False]])
    batch = net(images, report_tokens=torch.cat([report, report]), report_mask=mask)
    assert torch.allclose(batch[:1], net(images[:1], report_tokens=report), atol=1e-4)
    assert torch.allclose(batch[1:], net(images[1:]), atol=1e-4)


def test_encode_once_decode_often_equals_forward(build_trained, image, report):
    net = build_trained()
    features = net.encode(image)
    for tokens in (report, None, report[:, :1], report):
        assert torch.equal(net.decode(features, tokens).logits, net(image, report_tokens=tokens))


def test_outputs_in_training_and_in_evaluation(build, image):
    net = build()
    assert net(image).shape == (1, 3, 32, 32, 32) and net(image).dtype == torch.float32
    assert net.decode(net.encode(image)).deep == []
    decoded = net.train()(image)
    assert isinstance(decoded, Decoded)
    assert decoded.logits.shape == (1, 3, 32, 32, 32)
    assert decoded.attention.shape == (1, 3, 16, 16, 16)
    assert [tuple(d.shape) for d in decoded.deep] == [(1, 3, 8, 8, 8), (1, 3, 4, 4, 4)]


def test_probabilities_start_near_two_percent(image):
    torch.manual_seed(0)
    net = ReportGuidedUNet(region_embeddings=torch.randn(3, 128), bridge=False).train()
    decoded = net(image)
    for logits in (decoded.logits, decoded.attention, *decoded.deep):
        mean = logits.sigmoid().mean(dim=(0, 2, 3, 4))
        assert ((mean > 0.005) & (mean < 0.08)).all()


def test_every_parameter_gets_a_gradient_without_a_report(build, image):
    net = build().train()
    loss_of(net(image, **CLICK)).backward()
    assert not [n for n, p in net.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize("size", [(16, 16, 16), (48, 16, 80)])
def test_any_size_divisible_by_16_is_accepted(build_trained, report, size):
    assert build_trained()(torch.randn(1, 4, *size), report_tokens=report).isfinite().all()
    assert build_trained()(torch.randn(1, 4, *size)).shape == (1, 3, *size)


def test_invalid_input_is_refused(build, image, report):
    with pytest.raises(InputError, match=r"image: found shape \[1, 4, 32, 24, 32\]; expected .* divisible by 16"):
        build()(image[:, :, :, :24])
    with pytest.raises(InputError, match=r"image: .* expected N x 4"):
        build()(image[:, :3])
    with pytest.raises(InputError, match=r"report_tokens: .* x 8"):
        build()(image, report_tokens=report[..., :5])
    with pytest.raises(InputError, match="slice_tokens: found none"):
        build(slice_encoder=None)(image)


def test_invalid_arguments_are_refused(build):
    with pytest.raises(InputError, match="region_embeddings: found none"):
        build(region_embeddings=None)
    with pytest.raises(InputError, match=r"region_embeddings: found shape \(2, 8\)"):
        build(region_embeddings=torch.randn(2, 8))
    with pytest.raises(InputError, match="sequences"):
        build(sequences=3)
    with pytest.raises(InputError, match="widths"):
        build(widths=(4, 6, 8))
    assert build(region_embeddings=None, semantic_attention=False).head.semantic_attention is None


def test_slice_encoder_stays_frozen(build, image):
    net = build().train()
    before = {n: v.clone() for n, v in net.slice_encoder.state_dict().items()}
    loss_of(net(torch.cat([image, image]))).backward()
    assert not net.slice_encoder.training
    assert all(not p.requires_grad and p.grad is None for p in net.slice_encoder.parameters())
    assert all(torch.equal(v, before[n]) for n, v in net.slice_encoder.state_dict().items())


def test_slices_of_a_crop_are_placed_in_the_whole_volume(build_trained, image):
    net = build_trained()
    extent = torch.tensor([[[-1.0, 0.0], [0.5, 1.0], [-0.25, 0.25]]])
    tokens, positions = net.slice_encoder(image)
    positions = positions.clone()
    positions[0, :, 1] = torch.tensor([-0.75, -0.25, 0.625, 0.875, -0.125, 0.125])
    given = net(image, tokens, positions, extent=extent)
    assert torch.allclose(net(image, extent=extent), given, atol=1e-6)
    assert not torch.allclose(net(image), given, atol=1e-4)


def test_extent_changes_the_effect_of_the_report(build_trained, image, report):
    net = build_trained(bridge=False)
    left = torch.tensor([[[-1.0, 0.0], [-1.0, 1.0], [-1.0, 1.0]]])
    assert not torch.allclose(
        net(image, report_tokens=report, extent=left), net(image, report_tokens=report, extent=-left.flip(2)), atol=1e-3
    )


def test_metadata_of_a_batch_is_kept(build, image):
    batch = MetaTensor(torch.cat([image, image]), meta={"filename_or_obj": ["a.nii.gz", "b.nii.gz"]})
    batch.is_batch = True
    logits = build()(batch)
    assert isinstance(logits, MetaTensor) and logits.meta["filename_or_obj"] == ["a.nii.gz", "b.nii.gz"]
    assert torch.equal(logits.as_tensor(), build()(batch.as_tensor()))


def test_autocast_in_channels_last_agrees_with_full_precision(build_trained, image, report):
    net = build_trained()
    expected = net(image, report_tokens=report)
    net = net.to(memory_format=torch.channels_last_3d)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        features = net.encode(image)
        logits = net.decode(features, report).logits
    if cpu_has_bf16():  # elsewhere, PyTorch's kernels choose their own layout
        assert all(f.is_contiguous(memory_format=torch.channels_last_3d) for f in features[:-1])
    assert logits.dtype == torch.float32
    assert (logits - expected).abs().mean() < 0.05 * expected.std()
