"""Scale-equivariant convolutions rewritten for CPUs give the same numbers, and those that do not suit are left alone."""

import pytest
import torch
from torch import nn

from se_unet.builder import build_network
from se_unet.cpu.layers import for_cpu
from se_unet.cpu.scale_layers import CPUScaleConvolution, suits_scales
from se_unet.cpu.winograd import FEWEST_CHANNELS, FEWEST_SLICES
from se_unet.layers.convolution import GroupConvolution, LiftingConvolution, ScaleConvolution
from tests.se_unet.networks import config

SIGMAS = [(0.9, 0.9, 0.9), (1.2, 1.3, 1.4), (1.8, 1.9, 2.2)]


def rewritten(layer: ScaleConvolution) -> nn.Module:
    torch.manual_seed(1)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    fast = for_cpu(nn.Sequential(layer).eval())[0]  # type: ignore[index]
    assert isinstance(fast, CPUScaleConvolution)
    return fast


@pytest.mark.parametrize("depth", [1, FEWEST_SLICES - 1, FEWEST_SLICES, 13, 40])
@pytest.mark.parametrize("channels", [3, FEWEST_CHANNELS, 24])
@pytest.mark.parametrize("border", ["replicate", "zero"])
@pytest.mark.parametrize("scale_size", [1, 2])
def test_group_convolutions_agree(depth: int, channels: int, border: str, scale_size: int) -> None:
    torch.manual_seed(depth)
    layer = GroupConvolution(channels, 8, SIGMAS, border=border, scale_size=scale_size, bias=depth % 2 == 0)  # type: ignore[arg-type]
    fast = rewritten(layer)
    with torch.no_grad():
        for batch in (1, 2):
            x = torch.randn(batch, channels, len(SIGMAS), depth, 7, 9)
            expected = layer(x)
            torch.testing.assert_close(fast(x), expected, atol=3e-5, rtol=1e-5)
            assert (fast(x.flip(2)) - expected).abs().max() > 0.1  # the scales do differ


@pytest.mark.parametrize("scales", [1, 3])
def test_lifting_agrees(scales: int) -> None:
    layer = LiftingConvolution(2, 8, SIGMAS[:scales])
    fast, image = rewritten(layer), torch.randn(2, 2, 12, 7, 9)
    with torch.no_grad():
        torch.testing.assert_close(fast(image), layer(image), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        GroupConvolution(16, 8, SIGMAS, kernel=(1, 3, 3)),
        GroupConvolution(16, 8, SIGMAS, border="reflect"),
        GroupConvolution(16, 8, SIGMAS, border="renormalise"),
        GroupConvolution(16, 8, SIGMAS, taps="fitted", size=5),
        GroupConvolution(16, 8, SIGMAS, engine="dense"),
        GroupConvolution(16, 8, SIGMAS).double(),
    ],
)
def test_others_are_left_alone(layer: GroupConvolution) -> None:
    network = nn.Sequential(layer)
    assert not suits_scales(layer) and for_cpu(network) is network


def test_whole_networks_agree_and_are_not_changed() -> None:
    network = build_network(config("se", (8, 16, 24), scales=2)).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fast, x = for_cpu(network), torch.randn(1, 1, 16, 16, 16)
    assert any(isinstance(module, CPUScaleConvolution) for module in fast.modules())
    with torch.no_grad():
        torch.testing.assert_close(fast(x), network(x), atol=1e-4, rtol=1e-3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
