"""Costs that are counted are those that can be worked out by hand."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from benchmarks.cost.networks import activation_bytes_per_scale
from se_unet import GroupConvolution, build_network
from se_unet.cost import activation_bytes, multiply_adds
from tests.se_unet.networks import FAMILIES, config


def test_multiply_adds_of_a_convolution() -> None:
    assert multiply_adds(nn.Conv3d(2, 5, 3, padding=1), (1, 2, 4, 6, 8)) == 2 * 5 * 27 * 4 * 6 * 8


def test_multiply_adds_of_a_group_convolution() -> None:
    n, scales, channels, functions = 10, 2, 3, 10
    layer = GroupConvolution(channels, channels, [(0.8,) * 3, (1.0,) * 3])
    stencils = scales * channels**2 * 27 * n**3
    # X first, by its taps, then Y and Z by matrices: the margins of the stencil make each blurred axis two voxels longer
    taps = layer.functions.blur_x.shape[1]
    blurs = scales * channels * (taps * (n + 2) * n**2 + n * (n + 2) * n * (n + 2) + n * (n + 2) * (n + 2) ** 2)
    merging = scales * channels**2 * 27 * functions
    assert multiply_adds(layer, (1, channels, scales, n, n, n)) == stencils + blurs + merging


@pytest.mark.parametrize("family", FAMILIES)
def test_counting_leaves_the_network_alone(family: str) -> None:
    network = build_network(config(family, scales=2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert multiply_adds(network, (1, 1, 8, 8, 8)) > 0
    assert activation_bytes(network, (1, 1, 8, 8, 8)) > 0
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_activations_of_a_rectifier_behind_a_convolution() -> None:
    layer = nn.Sequential(nn.Conv3d(2, 5, 1), nn.LeakyReLU())
    voxels = 4 * 6 * 8
    assert activation_bytes(layer, (1, 2, 4, 6, 8)) == 4 * voxels * (2 + 5)


@pytest.mark.parametrize("family", FAMILIES)
def test_activations_are_about_those_of_a_real_pass(family: str) -> None:
    network = build_network(config(family, scales=2))
    own = {tensor.data_ptr() for tensor in [*network.parameters(), *network.buffers()]}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        outputs = network(torch.randn(1, 1, 16, 16, 16))
    assert len(outputs) == 2
    assert activation_bytes(network, (1, 1, 16, 16, 16)) == pytest.approx(sum(kept.values()), rel=0.15)


def test_activations_of_each_scale() -> None:
    shape = (1, 1, 16, 16, 16)
    (plain,) = activation_bytes_per_scale(config("plain"), shape)
    assert plain == activation_bytes(build_network(config("plain")), shape)
    group = activation_bytes_per_scale(config("se"), shape)
    assert sum(group) == activation_bytes(build_network(config("se")), shape)
    assert max(group) < 1.2 * min(group)  # all scales are on the same grid
    pyramid = activation_bytes_per_scale(config("pyramid", step=2.0, scales=3), (1, 1, 32, 32, 32))
    assert all(larger > 2 * smaller for larger, smaller in pairwise(pyramid))  # here every scale is smaller


def test_activations_grow_with_the_volume() -> None:
    network = build_network(config("se"))  # on 32 voxels the margins of the stencils are a small part
    assert activation_bytes(network, (2, 1, 64, 64, 64)) == pytest.approx(
        16 * activation_bytes(network, (1, 1, 32, 32, 32)), rel=0.1
    )
