"""Correlation along X by a depthwise convolution is the same as by the axis' matrix, forwards and backwards."""

from typing import cast

import pytest
import torch
from torch import Tensor

from configs.network import Border
from se_unet.layers.basis import fitted_factors
from se_unet.layers.grids import band_matrix
from se_unet.layers.row_blur import blur_rows, can_blur_rows


def by_matrix(rows: Tensor, taps: Tensor, border: Border, margin: int) -> Tensor:
    matrix = band_matrix(taps[None], rows.shape[3], border, margin=margin)[0]
    return torch.einsum("on,bzync->bzyoc", matrix, rows)


@pytest.mark.parametrize("border", ["replicate", "zero", "renormalise"])
@pytest.mark.parametrize("margin", [0, 1])
@pytest.mark.parametrize("length", [1, 2, 5, 30])
@pytest.mark.parametrize("sigma", [0.5, 2.0])
def test_it_is_the_product_with_the_matrix_of_the_axis(border: str, margin: int, length: int, sigma: float) -> None:
    taps = fitted_factors(sigma).blur.float()
    random = torch.Generator().manual_seed(length)
    rows = torch.randn(2, 3, 4, length, 5, generator=random)
    here, there = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    fast = blur_rows(here, taps, cast(Border, border), margin)
    exact = by_matrix(there, taps, cast(Border, border), margin)
    torch.testing.assert_close(fast, exact, rtol=1e-5, atol=1e-6)
    weights = torch.randn(exact.shape, generator=random)
    (fast * weights).sum().backward()
    (exact * weights).sum().backward()
    torch.testing.assert_close(here.grad, there.grad, rtol=1e-5, atol=1e-5)


def test_another_border_would_show() -> None:
    taps, rows = fitted_factors(1.2).blur.float(), torch.ones(1, 1, 1, 9, 1)
    difference = blur_rows(rows, taps, "replicate", 1) - blur_rows(rows, taps, "zero", 1)
    assert float(difference[..., 0, 0]) > 0.3 > 0.05 > float(difference[..., 5, 0].abs())


def test_it_declines_what_it_cannot_do() -> None:
    taps = fitted_factors(1.0).blur.float()
    x = torch.zeros(1, 2, 1, 4, 4, 4)
    assert can_blur_rows(x, taps, "replicate", 1)
    assert not can_blur_rows(x, taps, "reflect", 1)
    assert not can_blur_rows(x.double(), taps, "replicate", 1)
    assert can_blur_rows(x.to("meta"), taps, "replicate", 1)  # where cost is counted as a CPU has it
    assert not can_blur_rows(x, taps, "replicate", len(taps))
