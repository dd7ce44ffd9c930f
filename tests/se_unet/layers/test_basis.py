"""The taps of Hermite-Gaussian functions: exact moments, small errors, closed under axis swaps."""

import math

import pytest
import torch

from se_unet.layers.basis import fitted_factors, fitted_taps, function_orders, sampled_taps
from se_unet.layers.kernels import kernel_functions

SIGMAS = [0.6, 0.8, 1.0, 1.26, 2.0]


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_moments_are_exact(sigma: float, order: int) -> None:
    radius = 4
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    taps = fitted_taps(sigma, radius, order)
    for m in range(order):
        assert float((offsets**m * taps).sum()) == pytest.approx(0, abs=1e-8)
    assert float((offsets**order * taps).sum()) == pytest.approx(math.factorial(order) * sigma**order, rel=1e-8)


def test_sampled_taps_miss_the_moments() -> None:
    offsets = torch.arange(-2, 3, dtype=torch.float64)
    assert abs(float((offsets**2 * sampled_taps(1.0, 2, 2)).sum()) - 2) > 0.1


@pytest.mark.parametrize(("sigma", "limit"), [(0.8, 2e-2), (1.0, 1.3e-2), (1.26, 4e-3), (1.59, 1.4e-3), (2.0, 7e-4)])
def test_a_blur_and_three_taps_stand_for_each_derivative(sigma: float, limit: float) -> None:
    waves = torch.linspace(0, math.pi, 512, dtype=torch.float64)
    spectrum = torch.exp(-0.64 * waves**2)
    factors = fitted_factors(sigma)
    radius = len(factors.blur) // 2
    blurred = torch.cos(waves[:, None] * torch.arange(-radius, radius + 1)) @ factors.blur
    offsets = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    for order, stencil in enumerate(factors.stencils):
        answer = torch.exp(1j * waves[:, None] * offsets) @ stencil.to(torch.complex128) * blurred
        target = (1j * waves * sigma) ** order * torch.exp(-0.5 * (waves * sigma) ** 2)
        error = (spectrum * (answer - target).abs() ** 2).sum() / (spectrum * target.abs() ** 2).sum()
        assert float(error) <= limit
    assert float(factors.blur.sum()) == pytest.approx(1)


def test_function_counts() -> None:
    assert len(function_orders(2)) == 10
    assert len(function_orders(3)) == 20
    assert len(function_orders("tensor")) == 27
    assert len(function_orders(2, (False, True, True))) == 6


@pytest.mark.parametrize("order", [1, 2, "tensor"])
def test_swapping_axes_stays_within_the_functions(order: int) -> None:
    functions = kernel_functions(((1.0, 1.0, 1.0), (1.3, 1.3, 1.3)), (True, True, True), order).dense[1]
    rows = functions.flatten(1)
    swapped = functions.transpose(1, 3).flatten(1)
    solution = torch.linalg.lstsq(rows.T, swapped.T).solution
    assert float((rows.T @ solution - swapped.T).abs().max()) < 1e-8
    truncated = rows[:-1]  # the law must notice a missing function, here one of the highest order
    solution = torch.linalg.lstsq(truncated.T, swapped.T).solution
    assert float((truncated.T @ solution - swapped.T).abs().max()) > 1e-3


def test_impossible_taps_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be fitted with 1 taps"):
        fitted_taps(1.0, 0, 2)
    with pytest.raises(ValueError, match=r"sigma 0\.1 voxel is too narrow for the voxel grid"):
        fitted_factors(0.1)
