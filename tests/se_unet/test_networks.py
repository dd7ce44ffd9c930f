"""Laws of whole networks: equivariance before training, shapes, gradients, borders of size, weights on disk."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from configs.errors import InputError
from configs.network import NetworkConfig
from se_unet import build_network
from se_unet.equivariance import equivariance_error
from se_unet.families import ScaleFamily
from se_unet.layers.instance_norm import InstanceNorm
from se_unet.weights import load_weights, save_weights
from tests.se_unet.networks import FAMILIES, config


def error_of(network: NetworkConfig, factor: float) -> float:
    errors = []
    for seed in range(3):
        torch.manual_seed(seed)
        errors.append(equivariance_error(build_network(network).eval(), factor, stride=4, seeds=(seed,)))
    return sum(errors) / len(errors)


@pytest.mark.slow
def test_an_untrained_network_is_nearly_equivariant_and_a_plain_one_is_not() -> None:
    plain = error_of(config("plain", (8, 16, 32)), 0.9)
    group = error_of(config("se", projection="mean"), 0.9)
    pyramid = error_of(config("pyramid", projection="mean"), 0.9)
    assert max(group, pyramid) < 0.2
    assert max(group, pyramid) < plain / 4
    assert plain > 0.5


BLOCKS = ["plain", "residual"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("block", BLOCKS)
def test_training_gives_every_stage_and_every_parameter_a_gradient(family: str, block: str) -> None:
    network = build_network(config(family, block=block, scales=2, scale_mixing=4))  # there is but one neighbour to mix with
    outputs = network(torch.randn(2, 1, 16, 8, 16))
    assert [tuple(output.shape) for output in outputs] == [(2, 3, 16, 8, 16), (2, 3, 8, 4, 8)]
    target = [torch.randn_like(output) for output in outputs]
    sum((output * wanted).sum() for output, wanted in zip(outputs, target, strict=True)).backward()
    silent = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not bool(parameter.grad.abs().max() > 0)
    ]
    zero_start = [name for name in silent if ".second.0." in name or ".second.1.bias" in name]
    assert block == "residual" or not silent
    # A residual branch starts with a zero norm weight: the gradients before it are zero at the first step.
    assert all(name.split(".")[0] == "encoder" or name.startswith("network.encoder") for name in silent), silent
    assert len(zero_start) <= len(silent)


@pytest.mark.parametrize("family", FAMILIES)
def test_evaluation_gives_one_tensor_of_the_image_size(family: str) -> None:
    network = build_network(config(family, scales=2)).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 1, 20, 12, 16)).shape == (1, 3, 20, 12, 16)


def test_in_plane_stages_and_one_stage_networks() -> None:
    flat = config("se", strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)), kernels=((1, 3, 3), (1, 3, 3), (3, 3, 3)), spacing=(5, 1, 1))
    assert build_network(flat).eval()(torch.randn(1, 1, 6, 16, 16)).shape == (1, 3, 6, 16, 16)
    single = config("se", (4,), deep_supervision=False)
    assert build_network(single)(torch.randn(1, 1, 7, 9, 11)).shape == (1, 3, 7, 9, 11)


@pytest.mark.parametrize("family", FAMILIES)
def test_shifting_by_the_total_stride_is_exact_in_the_interior(family: str) -> None:
    torch.manual_seed(0)
    # Instance norm sees the whole image, so a shift moves its statistics: without it the law is exact.
    network = build_network(config(family, scales=2, projection="mean"))
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            for index, part in enumerate(module):
                if isinstance(part, InstanceNorm):
                    module[index] = nn.Identity()
    network.eval()
    if family == "pyramid":
        network.factors = (1.0, 2.0)  # type: ignore[assignment]
    shift = 8 if family == "pyramid" else 4
    length = 768 if family == "pyramid" else 384  # more than twice the receptive field
    image = torch.randn(1, 1, length, 8, 8)
    with torch.no_grad():
        one, other = network(image), network(image.roll(shift, 2))
    middle = length // 2
    inside = one[:, :, middle : middle + 8]
    assert float((inside - other[:, :, middle + shift : middle + 8 + shift]).abs().max() / one.std()) < 1e-4
    assert float((inside - other[:, :, middle + 1 + shift : middle + 9 + shift]).abs().max() / one.std()) > 1e-2


@pytest.mark.parametrize("projection", ["mean", "max", "logsumexp", "learned"])
def test_projections_agree_where_all_scales_say_the_same(projection: str) -> None:
    from se_unet.layers.head import project

    scores = torch.randn(2, 3, 1, 4, 4, 4).expand(-1, -1, 5, -1, -1, -1)
    votes = torch.randn(2, 1, 5, 4, 4, 4)
    torch.testing.assert_close(project(scores, projection, votes), scores[:, :, 0])


def test_instance_norm_is_that_of_torch_forwards_and_backwards() -> None:
    own, reference = InstanceNorm(3), nn.InstanceNorm3d(3, affine=True)
    for norm in (own, reference):
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    reference.load_state_dict(own.state_dict())
    x = torch.randn(2, 3, 4, 5, 6, 7).double()
    own, reference = own.double(), reference.double()
    results = []
    for norm, shape in ((own, (2, 3, 4, 5, 6, 7)), (reference, (2, 3, 20, 6, 7))):
        inputs = x.reshape(shape).clone().requires_grad_()
        y = norm(inputs)
        (y * torch.linspace(-1, 1, y.numel(), dtype=torch.float64).reshape(shape)).sum().backward()
        gradients = [inputs.grad, norm.weight.grad, norm.bias.grad]
        results.append([y.flatten(), *[gradient.flatten() for gradient in gradients if gradient is not None]])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_energy_near_nyquist_is_low() -> None:
    torch.manual_seed(0)

    def share(network: nn.Module) -> float:
        from se_unet.equivariance import PlaneWaves

        image = PlaneWaves(1, 1.5, torch.Generator().manual_seed(0)).sample(48, 24, 1.0)[None]
        with torch.no_grad():
            output: Tensor = network.eval()(image)[0, :, 8:-8, 8:-8, 8:-8]
        window = torch.hann_window(32, periodic=False)
        spectrum = torch.fft.fftn((output - output.mean((1, 2, 3), keepdim=True)) * window * window[:, None] * window[:, None, None],
                                  dim=(1, 2, 3)).abs() ** 2  # fmt: skip
        frequency = torch.fft.fftfreq(32).abs()
        high = torch.stack(torch.meshgrid(frequency, frequency, frequency, indexing="ij")).amax(0) > 0.4
        return float(spectrum[:, high].sum() / spectrum.sum())

    assert share(build_network(config("se", projection="mean"))) < 0.03


def test_weights_come_back_and_misfits_are_all_named(tmp_path: Path) -> None:
    network, other = build_network(config("se", scales=2)), build_network(config("se", scales=2))
    save_weights(network, tmp_path / "w.safetensors")
    load_weights(other, tmp_path / "w.safetensors")
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
    with pytest.raises(InputError) as caught:
        load_weights(build_network(config("se", (4, 8, 12), scales=2)), tmp_path / "w.safetensors")
    assert len(caught.value.faults) > 3
    with pytest.raises(InputError, match="the weights cannot be read"):
        load_weights(network, tmp_path / "none.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_is_finite(family: str) -> None:
    network = build_network(config(family, scales=2))
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(torch.randn(1, 1, 16, 16, 16))
    assert all(bool(torch.isfinite(output).all()) for output in outputs)


@pytest.mark.parametrize(
    ("spacing", "kernels", "strides"),
    [
        ((1.0, 1.0, 1.0), ((1, 3, 3),) * 5, ((1, 1, 1), *((1, 2, 2),) * 4)),  # slices
        ((1.0, 1.0, 1.0), ((3, 3, 3),) * 5, ((1, 1, 1), (2, 2, 2), *((1, 2, 2),) * 3)),  # a slab, soon too thin to halve
        ((5.0, 1.0, 1.0), ((1, 3, 3), (1, 3, 3), *((3, 3, 3),) * 3), ((1, 1, 1), *((1, 2, 2),) * 2, (2, 2, 2), (1, 2, 2))),
    ],
)
def test_kernels_are_as_well_sampled_at_every_stage(
    spacing: tuple[float, float, float], kernels: tuple[Any, ...], strides: tuple[Any, ...]
) -> None:
    described = config("se", (4, 4, 4, 4, 4), spacing=spacing, kernels=kernels, strides=strides)
    for stage in range(5):
        widths = ScaleFamily(described).sigmas(stage)[0]
        narrowest = min(width for width, size in zip(widths, kernels[stage], strict=True) if size > 1)
        assert narrowest == pytest.approx(0.8)
    depth = 1 if kernels[-1][0] == 1 else 8
    scores = build_network(described).eval()(torch.randn(1, 1, depth, 32, 32))
    assert scores.shape == (1, 3, depth, 32, 32) and scores.isfinite().all()
