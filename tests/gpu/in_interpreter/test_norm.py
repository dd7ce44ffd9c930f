"""The kernels of instance normalisation have the results and gradients of PyTorch's norm and rectifier."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from se_unet.layers.fused.norm_kernel import launch, launch_backward

EPS = 1e-5


def reference(samples: Tensor, weight: Tensor, bias: Tensor, slope: float, behind: Tensor) -> list[Tensor]:
    """Result, and the gradients of samples, bias and weight, by PyTorch in float64."""
    given = [one.double().requires_grad_() for one in (samples, bias, weight)]
    result = F.leaky_relu(F.group_norm(given[0].mT, samples.shape[2], given[2], given[1], EPS), slope).mT
    return [result.detach(), *torch.autograd.grad(result, given, behind.double())]


def found(samples: Tensor, weight: Tensor, bias: Tensor, slope: float, behind: Tensor) -> list[Tensor]:
    result, statistics = launch(samples, weight, bias, EPS, slope)
    gradient, totals = launch_backward(behind, samples, weight, bias, statistics, slope)
    return [result, gradient, *totals]


def errors(ones: list[Tensor], others: list[Tensor]) -> list[float]:
    return [float((one - other).abs().max() / other.abs().max()) for one, other in zip(ones, others, strict=True)]


def arguments(
    batch: int, voxels: int, channels: int, slope: float = 0.01, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor, float, Tensor]:
    torch.manual_seed(0)
    samples, behind = torch.randn(2, batch, voxels, channels).to(dtype)
    return samples + 0.5, torch.randn(channels), torch.randn(channels), slope, behind


@pytest.mark.parametrize("sizes", [(2, 7, 3), (1, 1500, 6), (3, 40, 70)])
@pytest.mark.parametrize("slope", [1.0, 0.01])
def test_it_equals_the_norm_of_pytorch(sizes: tuple[int, int, int], slope: float) -> None:
    given = arguments(*sizes, slope)
    assert max(errors(found(*given), reference(*given))) < 1e-4


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float16, 5e-3), (torch.bfloat16, 3e-2)])
def test_half_precision(dtype: torch.dtype, limit: float) -> None:
    given = arguments(2, 60, 8, dtype=dtype)
    assert found(*given)[0].dtype == dtype
    assert max(errors(found(*given), reference(*given))) < limit


def test_a_large_mean_costs_no_precision() -> None:
    samples, *others = arguments(1, 200, 4)
    given = (samples + 1000, *others)
    assert errors(found(*given), reference(*given))[0] < 1e-3


def test_a_wrong_statistic_is_seen() -> None:
    """The comparison would fail for a kernel that counted one voxel too few."""
    samples, weight, bias, slope, behind = arguments(1, 100, 4)
    less = found(samples[:, 1:].contiguous(), weight, bias, slope, behind[:, 1:].contiguous())
    assert min(errors(less[2:], reference(samples, weight, bias, slope, behind)[2:])) > 1e-3
