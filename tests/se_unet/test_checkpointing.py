"""Checkpointing changes what is kept for the backward pass, and nothing else."""

import pytest
import torch
from torch import Tensor

from se_unet import build_network
from se_unet.cost import activation_bytes
from tests.se_unet.networks import FAMILIES, config

IMAGE = torch.randn(2, 1, 16, 8, 8, generator=torch.Generator().manual_seed(0))


def gradients(family: str, checkpointing: bool, **changes: object) -> dict[str, Tensor]:
    torch.manual_seed(0)
    network = build_network(config(family, (3, 4, 5), scales=2, checkpointing=checkpointing, **changes))
    outputs = network(IMAGE)
    sum((output * output.detach().cos()).sum() for output in outputs).backward()
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("block", ["plain", "residual"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_the_same(family: str, block: str) -> None:
    whole, again = gradients(family, False, block=block), gradients(family, True, block=block)
    assert whole.keys() == again.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(again[name], gradient, msg=name)


@pytest.mark.parametrize("family", ["se", "pyramid"])
def test_dropped_scales_are_the_same_when_computed_again(family: str) -> None:
    whole, again = (gradients(family, switch, scale_dropout=0.5) for switch in (False, True))
    without = gradients(family, False)
    for name, gradient in whole.items():
        torch.testing.assert_close(again[name], gradient, msg=name)
    assert any(not torch.allclose(without[name], gradient) for name, gradient in whole.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_less_than_half_is_kept(family: str) -> None:
    whole, few = (activation_bytes(build_network(config(family, checkpointing=c)), (1, 1, 16, 16, 16)) for c in (False, True))
    assert 0 < few < whole / 2
