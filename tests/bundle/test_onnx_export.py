"""The ONNX model gives the output of the Python network for the image size that it was exported for."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

pytestmark = pytest.mark.slow


def test_onnx_output_equals_the_python_output(command, build_network, tiny_network, tiny_weights, tmp_path):
    shape = (1, 4, 48, 32, 48)
    result = command(
        "onnx_export",
        "network_def",
        path="bundle",
        filepath=tmp_path / "model.onnx",
        ckpt_file=tiny_weights,
        config_file="bundle/configs/inference.json",
        meta_file="bundle/configs/metadata.json",
        input_shape=list(shape),
        **tiny_network,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    network = build_network(**tiny_network, trained=False).eval()
    network.load_state_dict(torch.load(tiny_weights))
    image = torch.randn(shape, generator=torch.Generator().manual_seed(6))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    with torch.no_grad():
        assert np.allclose(logits, network(image).numpy(), atol=1e-3)
