"""Laws of mixed convolutions: each part is the convolution that it is made of."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from configs.network import ScaleGroup
from se_unet import GroupConvolution, build_network
from se_unet.equivariance import equivariance_error
from se_unet.layers.mixed import MixedConvolution
from tests.se_unet.networks import config

SIGMA = (0.9, 0.9, 0.9)


def image(channels: int) -> Tensor:
    return torch.randn(2, channels, 1, 6, 7, 8, generator=torch.Generator().manual_seed(0))


def difference(one: Tensor, other: Tensor) -> float:
    return float(((one - other).abs().max() / other.abs().max()).detach())


def test_without_smooth_weights_it_is_an_ordinary_convolution_of_the_channels_that_are_not_blurred() -> None:
    layer, x = MixedConvolution(4, 3, [SIGMA]), image(4)
    torch.nn.init.zeros_(layer.smooth[0])
    ordinary = F.conv3d(F.pad(x[:, 1::2, 0], (1,) * 6, mode="replicate"), layer.free)
    assert difference(layer(x)[:, :, 0], ordinary) < 1e-5
    assert difference(layer(x.flip(1))[:, :, 0], ordinary) > 0.1


@pytest.mark.parametrize("border", ["replicate", "zero", "reflect"])
def test_without_free_weights_it_is_a_scale_convolution_of_the_blurred_channels(border: str) -> None:
    layer, x = MixedConvolution(4, 3, [SIGMA], border=border), image(4)  # type: ignore[arg-type]
    torch.nn.init.zeros_(layer.free)
    smooth = GroupConvolution(2, 3, [SIGMA], border=border, engine="factorised")  # type: ignore[arg-type]
    smooth.load_state_dict({"weight": layer.smooth[0][:, :, None], "bias": layer.bias})
    assert difference(layer(x), smooth(x[:, ::2])) < 1e-5
    assert difference(layer(x), smooth(x[:, 1::2])) > 0.1


def test_channels_take_turns_among_several_widths() -> None:
    layer, x = MixedConvolution(7, 2, [SIGMA, (1.8, 1.8, 1.8)]), image(7)
    assert [weight.shape[1] for weight in layer.smooth] == [3, 2] and layer.free.shape[1] == 2
    for channel, parts in enumerate(([0], [1], [2]) * 2):
        only = torch.zeros_like(x)
        only[:, channel] = x[:, channel]
        with torch.no_grad():
            for index, weight in enumerate((*layer.smooth, layer.free)):
                copied = MixedConvolution(7, 2, [SIGMA, (1.8, 1.8, 1.8)])
                copied.load_state_dict(layer.state_dict())
                torch.nn.init.zeros_((*copied.smooth, copied.free)[index])
                changes = difference(copied(only), layer(only)) > 1e-5
                assert changes == (index in parts), (channel, index, weight.shape)


def test_fewer_channels_than_turns_are_seen_in_each_way() -> None:
    layer, x = MixedConvolution(1, 5, [SIGMA]), image(1)
    assert layer.smooth[0].shape[1] == 1 and layer.free.shape[1] == 1
    assert torch.equal(layer(x), layer(x[:, :, 0]))  # a map of one scale, or an image


def test_the_response_is_as_large_as_that_of_an_ordinary_convolution() -> None:
    torch.manual_seed(0)
    smooth_image = F.avg_pool3d(torch.randn(1, 64, 16, 16, 16), 5, stride=1)
    ordinary = torch.nn.Conv3d(64, 64, 3, bias=False)
    torch.nn.init.kaiming_normal_(ordinary.weight, nonlinearity="relu")
    ratio = MixedConvolution(64, 64, [SIGMA])(smooth_image).std() / ordinary(smooth_image).std()
    assert 0.5 < float(ratio.detach()) < 2


def test_a_border_that_free_kernels_have_not_is_refused() -> None:
    with pytest.raises(ValueError, match="renormalise"):
        MixedConvolution(2, 2, [SIGMA], border="renormalise")


@pytest.mark.slow
def test_an_untrained_mixed_network_changes_less_with_size_than_a_plain_one() -> None:
    group = ScaleGroup(smallest_sigma=0.9, number=1)
    errors = {}
    for family in ("mixed", "plain"):
        torch.manual_seed(0)
        network = build_network(config(family, (8, 16, 32), scale_group=None if family == "plain" else group))
        errors[family] = equivariance_error(network.eval(), 0.9, stride=4, seeds=(0,))
    assert errors["mixed"] < errors["plain"] / 2, errors
