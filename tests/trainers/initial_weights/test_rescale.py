"""Weights that have grown are brought back to the size of fresh ones, and the network computes the same."""

import pytest
import torch
from torch import nn

from configs.network import NetworkConfig, ScaleGroup
from se_unet import build_network
from tests.trainers.balls import tiny_plan
from trainers.initial_weights.rescale import rescale_before_norms, sizes_before_norms

FAMILIES = {
    "baseline": {},
    "residual": {"block": "residual"},
    "se": {"family": "se", "scale_group": ScaleGroup(smallest_sigma=0.9)},
    "three scales": {"family": "se", "scale_group": ScaleGroup(smallest_sigma=0.9, number=3)},
    "mixed": {"family": "mixed", "scale_group": ScaleGroup(smallest_sigma=0.9)},
}


def network(**changes: object) -> nn.Module:
    """A network in which no weight is zero."""
    config = tiny_plan().network("3d_fullres", "baseline").network
    torch.manual_seed(0)
    made = build_network(NetworkConfig.model_validate(config.model_dump() | changes)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def scores(made: nn.Module) -> torch.Tensor:
    """Scores of noise, in float64 and without the small constant of the norms, which a factor would change."""
    inputs = made.config.input_channels
    return made.double()(10 * torch.randn(1, inputs, 16, 16, 16, generator=torch.Generator().manual_seed(1)).double())[0]  # type: ignore[union-attr]


@pytest.mark.parametrize("changes", FAMILIES.values(), ids=FAMILIES)
@torch.no_grad()
def test_the_function_stays_and_the_weights_have_the_given_sizes(changes: dict[str, object]) -> None:
    made = network(**changes)
    sizes = [7 * size for size in sizes_before_norms(made)]
    before = scores(made)
    rescale_before_norms(made, sizes)
    assert torch.allclose(torch.stack(sizes_before_norms(made)), torch.stack(sizes).double())
    assert torch.allclose(scores(made), before, atol=1e-3 * float(before.abs().max()))


@torch.no_grad()
def test_a_factor_elsewhere_changes_the_function() -> None:
    made = network()
    before = scores(made)
    made.heads[0].weight.mul_(7)  # type: ignore[union-attr, index, operator]
    assert not torch.allclose(scores(made), before, atol=1e-1 * float(before.abs().max()))


@torch.no_grad()
def test_weights_of_zero_stay() -> None:
    made = network()
    sizes = sizes_before_norms(made)
    for parameter in made.parameters():
        parameter.zero_()
    rescale_before_norms(made, sizes)
    assert not any(parameter.any() for parameter in made.parameters())
