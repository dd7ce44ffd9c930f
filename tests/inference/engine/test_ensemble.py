"""Laws of test-time ensembling: reflections, scales, networks."""

import pytest
import torch
from torch import Tensor, nn

from configs.network import NetworkConfig
from configs.plan import NetworkPlan
from inference.engine.ensemble import Blending
from inference.engine.mirroring import Mirrored
from inference.engine.scaling import scale_image, scaled_shape
from inference.options import Variants
from tests.inference.engine.whole import predict_ensemble, predict_volume

PATCH = (8, 8, 8)


def network_plan(**changes: object) -> NetworkPlan:
    network = NetworkConfig(
        family="plain",
        input_channels=1,
        output_channels=3,
        features=(2,),
        strides=((1, 1, 1),),
        kernels=((3, 3, 3),),
        encoder_blocks=(1,),
        decoder_blocks=(),
    )
    return NetworkPlan.model_validate({"network": network, "patch_size": PATCH, "batch_size": 1, **changes})


def asymmetric(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Conv3d(1, 3, 3, padding=1)


def symmetric(seed: int = 0) -> nn.Module:
    """A convolution whose kernel equals its own reflections."""
    network = asymmetric(seed)
    with torch.no_grad():
        for axis in (2, 3, 4):
            network.weight.add_(network.weight.flip(axis))
    return network


class Constant(nn.Module):
    """The same logits everywhere."""

    def __init__(self, *logits: float):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.reshape(1, -1, 1, 1, 1).expand(len(x), -1, *x.shape[2:])


def test_mirroring_changes_nothing_of_a_symmetric_network() -> None:
    x = torch.randn(2, 1, 6, 7, 8)
    with torch.no_grad():
        torch.testing.assert_close(Mirrored(symmetric(), (0, 1, 2))(x), symmetric()(x), atol=1e-6, rtol=1e-5)
        assert (Mirrored(asymmetric(), (0, 1, 2))(x) - asymmetric()(x)).abs().max() > 0.1


@pytest.mark.parametrize("axes", [(0,), (2,), (0, 2), (0, 1, 2)])
def test_mirroring_commutes_with_its_reflections_only(axes: tuple[int, ...]) -> None:
    network = Mirrored(asymmetric(), axes)
    x = torch.randn(1, 1, 6, 7, 8)
    with torch.no_grad():
        for axis in (0, 1, 2):
            error = (network(x.flip(axis + 2)) - network(x).flip(axis + 2)).abs().max()
            assert error < 1e-5 if axis in axes else error > 0.05
    assert len(network.reflections) == 2 ** len(axes)


@pytest.mark.parametrize("training", [True, False])
def test_networks_are_left_as_they_were(training: bool) -> None:
    network = nn.Sequential(asymmetric(), nn.Dropout(0.5)).train(training)
    seen: list[bool] = []
    network.register_forward_hook(lambda module, _inputs, _output: seen.append(module.training))
    predict_ensemble([network], torch.randn(1, 8, 8, 8), network_plan(), Variants(scales=(0.8, 1.0)))
    assert network.training == training and network[1].training == training
    assert seen and not any(seen)


def test_evaluation_is_not_switched_while_other_threads_use_it() -> None:
    network = asymmetric().eval()
    switched: list[bool] = []
    network.train = lambda mode=True: switched.append(mode)  # type: ignore[method-assign, assignment]
    predict_ensemble([network], torch.randn(1, 9, 9, 9), network_plan())
    assert not switched


def test_wrong_mirror_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="among 0, 1, 2"):
        Mirrored(asymmetric(), (0, 3))


def test_scale_one_alone_changes_nothing() -> None:
    image = torch.randn(1, 11, 12, 9)
    plain = torch.softmax(predict_volume(asymmetric(), image, PATCH), 0)
    assert torch.equal(predict_ensemble([asymmetric()], image, network_plan(), Variants(mirror=False)), plain)
    several = predict_ensemble([asymmetric()], image, network_plan(), Variants(False, (0.8, 1.0, 1.25)))
    assert (several - plain).abs().max() > 0.01


def test_weights_choose_among_scales() -> None:
    image = torch.randn(1, 11, 12, 9)

    def ensemble(scales: tuple[float, ...], weights: tuple[float, ...] | None = None) -> Tensor:
        return predict_ensemble([asymmetric()], image, network_plan(), Variants(False, scales, weights))

    torch.testing.assert_close(ensemble((0.8, 1.0), (0, 3)), ensemble((1.0,)))
    torch.testing.assert_close(ensemble((0.8, 1.0), (1, 3)), 0.25 * ensemble((0.8,)) + 0.75 * ensemble((1.0,)))
    torch.testing.assert_close(ensemble((0.8, 1.25)), (ensemble((0.8,)) + ensemble((1.25,))) / 2)


def test_the_plan_gives_mirror_axes() -> None:
    image = torch.randn(1, 11, 12, 9)
    plan = network_plan(mirror_axes=(0,))
    explicit = predict_ensemble([Mirrored(asymmetric(), (0,))], image, plan, Variants(False))
    torch.testing.assert_close(predict_ensemble([asymmetric()], image, plan), explicit)


@pytest.mark.parametrize("regions", [False, True])
def test_outputs_are_probabilities(regions: bool) -> None:
    image = 5 * torch.randn(1, 11, 12, 9)
    networks = [asymmetric(0), asymmetric(1)]
    probabilities = predict_ensemble(
        networks, image, network_plan(mirror_axes=(0,)), Variants(scales=(0.7, 1.0, 1.3)), how=Blending(regions=regions)
    )
    assert probabilities.shape == (3, 11, 12, 9)
    assert probabilities.min() >= -1e-6 and probabilities.max() <= 1 + 1e-6
    sums = probabilities.sum(0)
    assert torch.allclose(sums, torch.ones(()), atol=1e-5) != regions


def test_networks_are_averaged_as_probabilities() -> None:
    image = torch.randn(1, 9, 9, 9)
    first, second = (0.0, 1.0, 2.0), (3.0, 0.0, 0.0)
    mean = predict_ensemble([Constant(*first), Constant(*second)], image, network_plan(), Variants(mirror=False))
    expected = (torch.tensor(first).softmax(0) + torch.tensor(second).softmax(0)) / 2
    torch.testing.assert_close(mean[:, 4, 4, 4], expected)


def test_thin_patches_are_not_scaled_or_mirrored_across() -> None:
    seen: list[tuple[int, ...]] = []

    class Slices(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(tuple(x.shape))
            return torch.cat([x, -x, x * x], 1)

    image = torch.randn(1, 3, 16, 16)
    plan = network_plan(patch_size=(1, 8, 8))
    assert predict_ensemble([Slices()], image, plan, Variants(scales=(2.0,))).shape == (3, 3, 16, 16)
    assert {shape[2:] for shape in seen} == {(1, 8, 8)}
    assert len(seen) == 3 * 7 * 7 * 4  # slices, tiles of a 32 x 32 slice, reflections


def test_a_resampled_smooth_image_is_the_same_image() -> None:
    def field(n: int) -> Tensor:
        position = (torch.arange(n) + 0.5) / n
        wave = torch.cos(2 * torch.pi * position)
        return (wave[:, None, None] + wave[None, :, None] * wave[None, None, :])[None]

    torch.testing.assert_close(scale_image(field(32), (40, 40, 40)), field(40), atol=0.02, rtol=0)
    torch.testing.assert_close(scale_image(field(32), (26, 26, 26)), field(26), atol=0.02, rtol=0)


def test_shrinking_removes_what_the_new_grid_cannot_hold() -> None:
    """Stripes of two voxels would turn into false wide stripes at half the size."""
    stripes = torch.cos(torch.pi * 0.9 * torch.arange(64))[None, None, None, :].expand(1, 4, 4, 64).contiguous()
    blurred = scale_image(stripes, (4, 4, 22))
    picked = stripes[..., 1::3]
    assert blurred.abs().max() < 0.12 < 0.9 < picked.abs().max()


def test_scaled_shapes() -> None:
    assert scaled_shape((10, 20, 1), 0.75) == (8, 15, 1)
    assert scaled_shape((10, 20, 30), 2.0, axes=(1, 2)) == (10, 40, 60)
    assert scaled_shape((1, 1, 1), 0.1) == (1, 1, 1)
    with pytest.raises(ValueError, match="positive, not 0"):
        scaled_shape((1, 1, 1), 0)


def test_wrong_members_are_named() -> None:
    image = torch.randn(1, 9, 9, 9)
    with pytest.raises(ValueError, match="at least one network"):
        predict_ensemble([], image, network_plan())
    with pytest.raises(ValueError, match="needs a nonnegative weight"):
        Variants(scales=(1.0,), weights=(1.0, 2.0))
    with pytest.raises(ValueError, match="needs a nonnegative weight"):
        Variants(scales=())
