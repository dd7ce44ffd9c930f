"""Exported networks give the same numbers in another program."""

from pathlib import Path

import numpy as np
import pytest
import torch

from se_unet import build_network
from se_unet.export import export_onnx, merged_copy
from tests.se_unet.networks import smallest

ORDINARY = {"Conv", "ConvTranspose", "MatMul", "Gemm"}


@pytest.mark.filterwarnings("ignore")  # those of the exporter
@pytest.mark.parametrize(
    "family",
    [
        "plain",
        pytest.param("se", marks=pytest.mark.slow),
        pytest.param("pyramid", marks=[pytest.mark.slow, pytest.mark.thorough]),
    ],
)
def test_onnxruntime_agrees_for_any_batch(family: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network = build_network(smallest(family)).eval()
    path = tmp_path / "network.onnx"
    export_onnx(network, path, (1, 8, 8, 12))
    assert [file.name for file in tmp_path.iterdir()] == ["network.onnx"]
    onnx.checker.check_model(path)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        image = torch.randn(batch, 1, 8, 8, 12)
        (logits,) = session.run(["logits"], {"image": image.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(logits, network(image).numpy(), atol=1e-4)
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert operators & ORDINARY
    assert not operators & {"Einsum", "ScatterElements", "Scatter", "Range"}, operators  # kernels and blurs are constants


def test_merged_layers_ignore_their_weights_and_the_network_does_not() -> None:
    network = build_network(smallest("se")).eval()
    copy = merged_copy(network)
    image = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        before = network(image)
        torch.testing.assert_close(copy(image), before)
        for module in (network, copy):
            module.encoder[0][0][0].weight.mul_(-2)
        torch.testing.assert_close(copy(image), before)
        assert not torch.allclose(network(image), before)
