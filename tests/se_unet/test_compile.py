"""Networks compile as one graph, in training and evaluation, and compute the same as before."""

import shutil
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from se_unet import GroupConvolution, build_network
from se_unet.layers.head import ScaleHead
from tests.se_unet.networks import FAMILIES, config, smallest

IMAGE = torch.randn(2, 1, 8, 8, 12, generator=torch.Generator().manual_seed(0))


def small(family: str, **changes: object) -> nn.Module:
    torch.manual_seed(0)
    return build_network(smallest(family, **changes))


def compiled(network: nn.Module, backend: str = "aot_eager") -> nn.Module:
    torch.compiler.reset()
    return torch.compile(network, fullgraph=True, backend=backend)  # type: ignore[return-value]


def gradient(network: nn.Module, outputs: list[Tensor]) -> Tensor:
    network.zero_grad()
    sum((output * output.detach().cos()).sum() for output in outputs).backward()
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None])


def check_training(network: nn.Module, backend: str = "aot_eager") -> None:
    expected = network(IMAGE)
    wanted = gradient(network, expected)
    outputs = compiled(network, backend)(IMAGE)
    torch.testing.assert_close(outputs, expected, rtol=1e-3, atol=1e-4)
    assert float((gradient(network, outputs) - wanted).norm() / wanted.norm()) < 1e-4


@pytest.mark.parametrize("family", ["plain", "se", pytest.param("pyramid", marks=pytest.mark.slow)])
def test_training(family: str) -> None:
    check_training(small(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_evaluation(family: str) -> None:
    network = small(family).eval()
    with torch.no_grad():
        torch.testing.assert_close(compiled(network, "eager")(IMAGE), network(IMAGE), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("projection", ["mean", "max", "logsumexp", "learned"])
def test_heads_that_drop_scales(projection: Any) -> None:
    head, features = ScaleHead(2, 3, projection, dropout=0.5), torch.randn(2, 2, 3, 4, 4, 4)
    assert bool(compiled(head, "eager")(features).isfinite().all())


@pytest.mark.parametrize("border", ["replicate", "zero", "reflect", "renormalise"])
def test_borders(border: Any) -> None:
    torch.manual_seed(0)
    layer = GroupConvolution(2, 3, [(0.8,) * 3, (1.0,) * 3], border=border, scale_size=2)
    features = torch.randn(1, 2, 2, 4, 5, 6)
    torch.testing.assert_close(compiled(layer, "eager")(features), layer(features), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_training_with_all_options(family: str) -> None:
    check_training(small(family, checkpointing=True, block="residual", scale_mixing=1))


def test_what_was_traced_is_not_kept_for_others() -> None:
    network = small("pyramid").eval()
    torch.compiler.reset()
    with torch.inference_mode():
        compiled(network, "eager")(IMAGE)
        network(IMAGE)
    network(IMAGE).sum().backward()  # would fail on a matrix that was built while gradients were impossible


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside the compiler
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_code_is_generated() -> None:
    one_stage = build_network(
        config("se", (2,), scales=2, encoder_blocks=(1,), decoder_blocks=())
    )  # more takes minutes to compile
    check_training(one_stage, "inductor")


def test_importing_the_networks_leaves_the_compiler_out() -> None:
    code = "import sys, se_unet.cost, se_unet.export; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
