"""Scales weighed by confidence: where structures have another size than in training, the right factor is found."""

import math

import pytest
import torch
from torch import Tensor, nn

from configs.network import NetworkConfig
from configs.plan import NetworkPlan
from inference.engine.capacity import Capacity
from inference.engine.confidence import confident_weights, expected_dice, weights_of
from inference.engine.ensemble import Blending

PATCH, RADIUS = (48, 48, 48), 5.0  # a patch holds the image at every factor
FACTORS = (0.5, 1.0, 2.0)


class Knowing(nn.Module):
    """Finds everything bright, and is the surer the more its volume is that of a ball of the radius it knows."""

    def __init__(self, regions: bool = False):
        super().__init__()
        self.regions = regions

    def forward(self, x: Tensor) -> Tensor:
        radius = (float((x > 0.5).sum()) * 3 / (4 * math.pi)) ** (1 / 3)
        sharpness = 20 * math.exp(-2 * abs(math.log(max(radius, 0.1) / RADIUS)))
        label = sharpness * (x - 0.5)
        return label if self.regions else torch.cat([torch.zeros_like(label), label], 1)


def network_plan(outputs: int) -> NetworkPlan:
    network = NetworkConfig(
        family="plain",
        input_channels=1,
        output_channels=outputs,
        features=(2,),
        strides=((1, 1, 1),),
        kernels=((3, 3, 3),),
        encoder_blocks=(1,),
        decoder_blocks=(),
    )
    return NetworkPlan(network=network, patch_size=PATCH, batch_size=1)


def ball(radius: float) -> Tensor:
    squares = (torch.arange(22) - 10.5) ** 2
    distance = (squares[:, None, None] + squares[:, None] + squares).sqrt()
    return (radius - distance + 0.5).clamp(0, 1)[None]


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize(("size", "right"), [(1.0, 1.0), (0.5, 2.0), (2.0, 0.5)])
def test_the_factor_that_undoes_the_change_of_size_gets_the_weight(size: float, right: float, regions: bool) -> None:
    plan, capacity = network_plan(1 if regions else 2), Capacity.of(torch.device("cpu"))
    weights = confident_weights(Knowing(regions).eval(), ball(RADIUS * size), plan, FACTORS, Blending(regions=regions), capacity)
    assert FACTORS[weights.index(max(weights))] == right
    assert sum(weights) == pytest.approx(1)


def test_an_image_without_any_label_weighs_all_scales_alike() -> None:
    plan, capacity = network_plan(2), Capacity.of(torch.device("cpu"))
    assert confident_weights(Knowing().eval(), torch.zeros(1, 22, 22, 22), plan, FACTORS, Blending(), capacity) == (1 / 3,) * 3


def test_weights_add_up_to_one_and_small_ones_are_none() -> None:
    first, second, third = weights_of([0.9, 0.85, 0.5])
    assert third == 0 and first + second == pytest.approx(1)
    assert first / second == pytest.approx(math.e, rel=1e-6)


def test_what_is_expected_is_the_mean_dice_over_labels_that_are_decided_for() -> None:
    certain = nn.functional.one_hot(torch.tensor([[[0, 1, 1, 2]]]), 4).movedim(-1, 0).float()
    assert expected_dice(certain, regions=False) == pytest.approx(2 / 3)  # labels 1 and 2 are sure, 3 is nowhere
    half = 0.5 * certain + 0.5 * certain[[0, 3, 2, 1]]  # label 1 is decided for with a probability of 1/2, label 3 as probable
    assert expected_dice(half, regions=False) == pytest.approx((2 * 1 / (1 + 2) + 1 + 0) / 3)
    assert expected_dice(certain[1:], regions=True) == pytest.approx(2 / 3)
