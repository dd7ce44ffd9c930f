"""Laws of the layers between convolutions: they commute with a shift in scale, learn, and stay finite in half precision."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from se_unet.layers.grids import per_scale_separable
from se_unet.layers.head import ScaleHead, project
from se_unet.layers.pointwise import PointwiseConvolution, ScaleMixing
from se_unet.published.dropout import ScaleEquivariantDropout
from se_unet.published.norm import ScaleBatchNorm, ScaleInstanceNorm
from se_unet.published.reference_layers import ReferenceGroupConvolution, ReferenceLifting, ReferencePointwise
from se_unet.published.sampled_basis import SampledBasis

CHANNELS, SCALES = 4, 5
BASIS = SampledBasis(size=3, effective_size=2, scales=(1.0, 0.9, 0.81, 0.73, 0.66))

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: ScaleBatchNorm(CHANNELS),
    "batch norm, untracked": lambda: ScaleBatchNorm(CHANNELS, track_running_stats=False),
    "instance norm": lambda: ScaleInstanceNorm(CHANNELS),
    "instance norm, tracked": lambda: ScaleInstanceNorm(CHANNELS, track_running_stats=True),
    "pointwise": lambda: PointwiseConvolution(CHANNELS, CHANNELS),
    "reference pointwise": lambda: ReferencePointwise(CHANNELS, CHANNELS),
    "mixing": lambda: ScaleMixing(CHANNELS, 1),
    "channel dropout": lambda: ScaleEquivariantDropout(0.3),
    "reference group": lambda: ReferenceGroupConvolution(CHANNELS, CHANNELS, BASIS, scale_size=2, padding=1),
}
COMMUTING = [name for name in LAYERS if name not in ("mixing", "reference group")]


def randomised(layer: nn.Module, seed: int = 0) -> nn.Module:
    """The layer with random parameters, so that no law holds by a special starting value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return layer


def scale_map(seed: int = 0) -> Tensor:
    """(2, C, S, 6, 4, 4) whose mean and spread differ from scale to scale."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, CHANNELS, SCALES, 6, 4, 4, generator=generator)
    k = torch.arange(1.0, SCALES + 1).reshape(1, 1, -1, 1, 1, 1)
    return x * k + k


def shift_error(layer: Callable[[Tensor], Tensor], x: Tensor, inner: slice = slice(None)) -> float:
    """Relative difference between shifting first and shifting last; the same random draws for both."""

    def run(value: Tensor) -> Tensor:
        torch.manual_seed(1)
        return layer(value).detach()

    first, last = run(x.roll(1, 2))[:, :, inner], run(x).roll(1, 2)[:, :, inner]
    return float((first - last).norm() / last.norm())


class NormPerScale(nn.Module):
    """The control: statistics, factors and offsets of each scale by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(CHANNELS * SCALES)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.flatten(1, 2)).unflatten(1, (CHANNELS, SCALES))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", COMMUTING)
def test_layer_commutes_with_a_shift_in_scale(name: str, training: bool) -> None:
    layer = randomised(LAYERS[name]())
    layer(scale_map(1))  # running statistics, where there are any
    assert shift_error(layer.train(training), scale_map()) < 1e-5


@pytest.mark.parametrize("training", [True, False])
def test_norm_per_scale_does_not_commute(training: bool) -> None:
    control = randomised(NormPerScale())
    control(scale_map(1))
    assert shift_error(control.train(training), scale_map()) > 0.1


def test_voxelwise_dropout_does_not_commute() -> None:
    assert shift_error(nn.Dropout(0.3), scale_map()) > 0.1


@pytest.mark.parametrize("reach", [1, 2])
def test_mixing_commutes_with_a_shift_away_from_the_ends(reach: int) -> None:
    layer = randomised(ScaleMixing(CHANNELS, reach))
    x = torch.cat([scale_map(0), scale_map(1)], dim=2)
    assert shift_error(layer, x, slice(reach + 1, 2 * SCALES - reach)) < 1e-5
    assert shift_error(layer, x) > 0.1  # at the ends the law cannot hold


def test_mixing_weights_neighbours_that_exist_more() -> None:
    layer = ScaleMixing(CHANNELS, 1)
    x = torch.ones(1, CHANNELS, SCALES, 2, 2, 2)
    torch.testing.assert_close(layer(x), x)
    with torch.no_grad():
        layer.weight.fill_(0.25)
    torch.testing.assert_close(layer(x), x * 1.5)  # no scale is darker for lack of a neighbour
    single = torch.randn(1, CHANNELS, 1, 2, 2, 2)
    torch.testing.assert_close(layer(single), single)


@pytest.mark.parametrize("kind", ["mean", "max", "logsumexp", "learned"])
def test_projection_does_not_feel_a_shift(kind: Any) -> None:
    head = randomised(ScaleHead(CHANNELS, 3, kind)).eval()
    x = 0.3 * scale_map()
    y = head(x)
    assert y.shape == (2, 3, 6, 4, 4)
    torch.testing.assert_close(head(x.roll(2, 2)), y, rtol=1e-4, atol=1e-4)


def test_projection_with_fixed_weights_per_scale_feels_a_shift() -> None:
    weights = torch.linspace(-1, 1, SCALES).reshape(1, 1, -1, 1, 1, 1).softmax(2)
    x = scale_map()
    difference = (x * weights).sum(2) - (x.roll(2, 2) * weights).sum(2)
    assert difference.abs().max() > 0.1


@pytest.mark.parametrize("kind", ["mean", "max", "logsumexp", "learned"])
def test_projection_of_equal_scales_is_the_identity(kind: Any) -> None:
    scores = torch.randn(1, 3, 1, 4, 4, 4)
    votes = torch.randn(1, 1, SCALES, 4, 4, 4) if kind == "learned" else None
    torch.testing.assert_close(project(scores.expand(-1, -1, SCALES, -1, -1, -1), kind, votes), scores[:, :, 0])


@pytest.mark.parametrize("kind", ["mean", "max", "logsumexp", "learned"])
def test_projection_of_the_kept_scales_is_that_of_a_map_without_the_others(kind: Any) -> None:
    scores, votes = torch.randn(2, 3, SCALES, 4, 4, 4), torch.randn(2, 1, SCALES, 4, 4, 4)
    kept = torch.tensor([[True, False, True, False, False], [False, True, True, True, True]])
    received = project(scores.requires_grad_(), kind, votes, kept)
    for sample in range(2):
        present = kept[sample]
        expected = project(scores[[sample]][:, :, present], kind, votes[[sample]][:, :, present])
        torch.testing.assert_close(received[[sample]], expected)
    assert not torch.allclose(received, project(scores, kind, votes))
    received.sum().backward()
    assert scores.grad is not None and scores.grad.isfinite().all()
    assert torch.equal(scores.grad.abs().sum((1, 3, 4, 5)) > 0, kept)


def test_head_drops_scales_in_training_alone() -> None:
    torch.manual_seed(0)
    head, x = randomised(ScaleHead(CHANNELS, 3, "mean", dropout=0.5)), scale_map()
    assert not torch.allclose(head(x), head(x))
    assert torch.equal(head.eval()(x), head(x))


def test_learned_projection_starts_as_the_mean() -> None:
    head = ScaleHead(CHANNELS, 3, "learned")
    x = scale_map()
    torch.testing.assert_close(head(x), head.scores(x).mean(2))


@pytest.mark.parametrize("name", LAYERS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name]()
    x = scale_map().requires_grad_()
    y = layer(x)
    (y * torch.randn_like(y)).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    for parameter_name, parameter in layer.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().min() > 0, parameter_name


def test_a_reach_beyond_the_last_scale_would_leave_weights_without_a_gradient() -> None:
    layer = ScaleMixing(CHANNELS, SCALES)
    layer(scale_map()).square().sum().backward()
    assert layer.weight.grad is not None and bool((layer.weight.grad == 0).any())


def test_lifting_gets_gradients() -> None:
    layer = ReferenceLifting(2, CHANNELS, BASIS, padding=1)
    layer(torch.randn(1, 2, 5, 5, 5)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().min() > 0 for parameter in layer.parameters())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_half_precision_is_finite_and_close(name: str, training: bool) -> None:
    layer = LAYERS[name]()
    layer(scale_map(1))
    layer.train(training)
    x = scale_map().requires_grad_()
    torch.manual_seed(0)
    whole = layer(x)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x)
    half.float().sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
    assert (half.float() - whole).norm() / whole.norm() < 0.05


@pytest.mark.parametrize("name", LAYERS)
def test_channels_last_gives_the_same(name: str) -> None:
    layer = randomised(LAYERS[name]()).eval()
    x = scale_map()
    torch.testing.assert_close(layer(x.movedim(1, -1).contiguous().movedim(-1, 1)), layer(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in LAYERS if "norm" in name])
def test_norm_gives_mean_0_and_variance_1_over_scale_and_space(name: str) -> None:
    layer, x = LAYERS[name](), scale_map()
    y = layer(x)
    pooled = {"batch": y.movedim(1, 0).flatten(1), "instance": y.flatten(2)}
    variance, mean = torch.var_mean(pooled[name.split()[0]], dim=-1, correction=0)
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-5, rtol=0)
    torch.testing.assert_close(variance, torch.ones_like(variance), atol=1e-4, rtol=0)


@pytest.mark.parametrize("tracked", [True, False])
def test_instance_norm_evaluates_negative_images(tracked: bool) -> None:
    layer = ScaleInstanceNorm(CHANNELS, track_running_stats=tracked)
    x = scale_map() - 10
    training = layer(x)
    evaluated = layer.eval()(x)
    assert evaluated.isfinite().all()
    assert tracked or torch.equal(training, evaluated)


def test_a_map_without_scales_is_refused() -> None:
    with pytest.raises(ValueError, match="a scale-feature map must be"):
        ScaleInstanceNorm(CHANNELS)(torch.zeros(1, CHANNELS, 4, 4, 4))


def test_channel_dropout_leaves_out_whole_channels() -> None:
    torch.manual_seed(0)
    layer, x = ScaleEquivariantDropout(0.5), torch.ones(20, 10, SCALES, 2, 2, 2)
    factors = layer(x).flatten(2)
    assert torch.equal(factors, factors[:, :, :1].expand_as(factors))
    assert set(factors.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize("probability", [-0.1, 1.0])
def test_a_probability_out_of_range_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match=r"must be in \[0, 1\)"):
        ScaleEquivariantDropout(probability)


@pytest.mark.parametrize("channels", [3, 15, 16, 20])
@pytest.mark.parametrize("needs_gradient", [False, True])
def test_each_scale_and_axis_has_its_own_matrix(channels: int, needs_gradient: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, channels, 3, 5, 6, 7, requires_grad=needs_gradient)
    z, y, x_axis = (torch.randn(3, outputs, inputs) for outputs, inputs in ((4, 5), (6, 6), (9, 7)))
    expected = torch.einsum("bcszyx,skz,sjy,six->bcskji", x, z, y, x_axis)
    torch.testing.assert_close(per_scale_separable(x, (z, y, x_axis)), expected, atol=1e-4, rtol=1e-4)
    shared = per_scale_separable(x, (z[:1], None, x_axis[:1]))
    torch.testing.assert_close(shared, torch.einsum("bcszyx,kz,ix->bcskyi", x, z[0], x_axis[0]), atol=1e-4, rtol=1e-4)
    assert shared.movedim(1, -1).is_contiguous()
