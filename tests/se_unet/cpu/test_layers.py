"""Layers rewritten for CPUs give the same numbers, and others are left alone."""

import pytest
import torch
from torch import nn

from inference.engine.heads import split_network
from se_unet.builder import build_network
from se_unet.cpu.layers import OneDNNConvolution, PatchwiseUp, for_cpu
from tests.inference.models import many_classes, plan


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv3d(1, 8, 3, padding=1),
        nn.Conv3d(16, 8, (1, 3, 3), (1, 2, 2), (0, 1, 1)),
        nn.Conv3d(16, 5, 1, bias=False),
        nn.Conv3d(16, 16, 3, padding=2, dilation=2, groups=4),
        nn.ConvTranspose3d(16, 8, 2, 2),
        nn.ConvTranspose3d(16, 8, (1, 2, 2), (1, 2, 2), bias=False),
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_layers_agree(layer: nn.Module, batch: int) -> None:
    network = nn.Sequential(layer).eval()
    fast = for_cpu(network)
    assert isinstance(fast[0], (OneDNNConvolution, PatchwiseUp))  # type: ignore[index]
    x = torch.randn(batch, layer.in_channels, 6, 8, 10).contiguous(memory_format=torch.channels_last_3d)  # type: ignore[arg-type, call-overload]
    with torch.no_grad():
        torch.testing.assert_close(fast(x), network(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv3d(4, 4, 3, padding="same"),
        nn.Conv3d(4, 4, 3, padding=1, padding_mode="replicate"),
        nn.ConvTranspose3d(4, 4, 3, 2, 1),
        nn.Conv2d(4, 4, 3),
        nn.Identity(),
    ],
)
def test_other_layers_are_left_alone(layer: nn.Module) -> None:
    network = nn.Sequential(layer)
    assert for_cpu(network) is network


def test_whole_networks_agree_and_are_not_changed() -> None:
    for classes in (3, 20):  # the head is split off where there are many
        network = build_network(plan(many_classes(classes)).network("3d_fullres", "baseline").network).eval()
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        fast = for_cpu(network)
        assert fast is not network and not any(parameter.requires_grad for parameter in fast.parameters())
        assert all(parameter.requires_grad for parameter in network.parameters())
        x = torch.randn(1, 1, 16, 16, 16)
        with torch.no_grad():
            torch.testing.assert_close(fast(x), network(x), atol=1e-4, rtol=1e-3)
        assert (split_network(fast).head is None) == (split_network(network).head is None) == (classes == 3)
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
