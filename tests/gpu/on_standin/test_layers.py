"""Layers on a GPU: the numbers of the CPU, in the precision and the layout of their maps."""

import pytest
import torch
from torch import Tensor, nn

from se_unet.layers.convolution import GroupConvolution, LiftingConvolution
from se_unet.layers.instance_norm import InstanceNorm
from se_unet.layers.pointwise import ScaleMixing
from se_unet.layers.sampling import InterpolateUp, LowPassDown
from tests.gpu.standin.ledger import Ledger

SIGMAS = ((0.9, 0.9, 0.9), (1.3, 1.3, 1.3))


def innermost(x: Tensor) -> bool:
    return x.movedim(1, -1).is_contiguous()


def maps(*shape: int) -> Tensor:
    torch.manual_seed(0)
    x = torch.randn(*shape) + 0.5
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def gradients(layer: nn.Module, x: Tensor, weight: Tensor) -> list[Tensor]:
    """The output, and the gradients of the input and of all parameters."""
    layer.zero_grad(set_to_none=True)
    x = x.detach().requires_grad_()
    y = layer(x)
    (y * weight.to(y)).sum().backward()
    return [one.detach().float().cpu() for one in (y, x.grad, *(p.grad for p in layer.parameters()))]


@pytest.mark.parametrize("slope", [None, 0.01])
@pytest.mark.parametrize("shape", [(2, 6, 5, 7, 4), (1, 6, 3, 4, 5, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_instance_norm(gpu: Ledger, dtype: torch.dtype, shape: tuple[int, ...], slope: float | None) -> None:
    """The same as in float32 up to the precision of the maps, which keep precision and layout."""
    layer, x, weight = InstanceNorm(6, slope=slope), maps(*shape).to(dtype), torch.randn(shape)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    expected = gradients(layer, x.float(), weight)
    layer.to("cuda")
    there = gradients(layer, x.to("cuda"), weight.to("cuda"))
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 0.02, torch.float16: 3e-3}[dtype]
    for one, other in zip(expected, there, strict=True):
        assert (one - other).abs().max() <= tolerance * one.abs().max() + tolerance
    y = layer(x.to("cuda"))
    assert y.dtype == dtype and innermost(y)
    with torch.no_grad():
        assert torch.equal(layer(x.to("cuda")).cpu(), y.detach().cpu())


@pytest.mark.parametrize(
    "layer",
    [
        InstanceNorm(4, slope=0.01),
        GroupConvolution(4, 4, SIGMAS),
        GroupConvolution(4, 4, SIGMAS, scale_size=2, border="reflect"),
        nn.Sequential(GroupConvolution(4, 4, SIGMAS), ScaleMixing(4, 1), InstanceNorm(4, slope=0.01)),
        LowPassDown((0.8, 1.4), (2, 2, 2)),
        InterpolateUp((2, 1, 2)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_no_layer_leaves_half_precision(gpu: Ledger, layer: nn.Module, dtype: torch.dtype) -> None:
    """A map in float32 under autocast takes twice the memory and time."""
    x = maps(2, 4, 2, 8, 8, 8)
    expected = layer.cpu()(x)
    layer.to("cuda")
    with torch.autocast("cuda", dtype):
        y = layer(x.to("cuda", dtype))
    assert y.dtype == dtype and innermost(y)
    assert (y.float().cpu() - expected).abs().max() < 0.05 * expected.abs().max()


def test_maps_of_one_scale_are_not_copied(gpu: Ledger) -> None:
    """Neither forward nor backward: blurs are products, and the convolution takes their result as it is."""
    layer = GroupConvolution(4, 4, SIGMAS[:1]).to("cuda")
    x = maps(2, 4, 1, 8, 8, 8).to("cuda").requires_grad_()
    layer(x).sum().backward()
    gpu.restart()
    layer(x).sum().backward()
    assert gpu.operators["clone"] <= 2 and gpu.operators["stack"] <= 1, gpu.operators  # of kernels
    assert not gpu.operators["cat"] + gpu.operators["copy_"], gpu.operators


def test_matrices_are_made_once(gpu: Ledger) -> None:
    layer = GroupConvolution(4, 4, SIGMAS[:1]).to("cuda").eval()
    x = maps(1, 4, 1, 8, 8, 8).to("cuda")
    launches = []
    with torch.no_grad():
        for _ in range(3):
            gpu.restart()
            layer(x)
            launches.append(gpu.launches)
    assert launches[1] == launches[2] <= 6 < launches[0], gpu.operators
    with torch.no_grad():
        layer.functions.blurs()[0].mul_(2)  # type: ignore[union-attr]
        assert not torch.equal(layer(x).cpu(), layer.to("cpu")(x.cpu()) / 2)


FUSED = {
    "convolution": (GroupConvolution(4, 4, SIGMAS), maps(2, 4, 2, 5, 8, 6), 4),
    "reflect": (GroupConvolution(4, 4, SIGMAS, border="reflect", scale_size=2), maps(1, 4, 2, 5, 8, 6), 4),
    "in plane": (GroupConvolution(4, 4, SIGMAS[:1], (1, 3, 3)), maps(2, 4, 1, 1, 8, 6), 2),
    "one channel": (LiftingConvolution(1, 4, SIGMAS), maps(2, 1, 5, 8, 6), 4),
    "low-pass": (LowPassDown((0.8, 1.4), (1, 2, 2)), maps(2, 4, 2, 5, 8, 6), 2),
    "interpolation": (InterpolateUp((2, 1, 2), "cubic"), maps(2, 4, 2, 5, 8, 6), 2),
}


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("kernels", ["auto", "plain"])
def test_one_operator_for_three_axes(gpu: Ledger, name: str, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results and gradients are those of the CPU, with the operator of the fused kernel and without."""
    monkeypatch.setenv("SE_UNET_KERNELS", kernels)
    layer, x, number = FUSED[name]
    layer = layer.cpu()
    weight = torch.randn(layer(x).shape)
    expected = gradients(layer, x, weight)
    layer.to("cuda")
    gpu.restart()
    there = gradients(layer, x.to("cuda"), weight.to("cuda"))
    assert gpu.operators["separable"] == (number if kernels == "auto" else 0)
    for one, other in zip(expected, there, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-3)


def test_wide_blurs_are_products(gpu: Ledger) -> None:
    layer = GroupConvolution(4, 4, [(4.0,) * 3]).to("cuda")
    layer(maps(1, 4, 1, 6, 6, 6).to("cuda"))
    assert not gpu.operators["separable"] and gpu.operators["bmm"] + gpu.operators["mm"] >= 3, gpu.operators


def test_a_norm_starts_few_operators(gpu: Ledger) -> None:
    layer, x = InstanceNorm(4, slope=0.01).to("cuda"), maps(3, 4, 5, 6, 7).to("cuda").requires_grad_()
    layer(x).sum().backward()
    gpu.restart()
    layer(x)
    assert gpu.launches == gpu.operators["instance_norm"] == 1, gpu.operators
