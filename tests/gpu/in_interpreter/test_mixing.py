"""The kernels of products over scales have the results of PyTorch's products."""

import pytest
import torch
from torch import Tensor

from se_unet.layers.fused.mixing import parts_of_channels
from se_unet.layers.fused.mixing_kernel import launch, launch_sums


def arguments(sizes: tuple[int, int, int, int], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, gradients (B, S, voxels, C) and a matrix (S, S, C)."""
    torch.manual_seed(0)
    rows, gradient = torch.randn(2, *sizes).to(dtype)
    return rows, gradient, torch.randn(sizes[1], sizes[1], sizes[3])


def error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).abs().max() / expected.abs().max())


SIZES = [(2, 3, 50, 5), (1, 4, 7, 70), (1, 1, 3, 2), (3, 2, 300, 3)]


@pytest.mark.parametrize("sizes", SIZES)
def test_products(sizes: tuple[int, int, int, int]) -> None:
    rows, _, matrix = arguments(sizes)
    assert error(launch(rows, matrix), torch.einsum("kjc,bjvc->bkvc", matrix.double(), rows.double())) < 1e-6
    transposed = matrix.transpose(0, 1)
    assert error(launch(rows, transposed), torch.einsum("jkc,bjvc->bkvc", matrix.double(), rows.double())) < 1e-6


@pytest.mark.parametrize("sizes", SIZES)
def test_sums(sizes: tuple[int, int, int, int]) -> None:
    rows, gradient, _ = arguments(sizes)
    sums = launch_sums(gradient, rows)
    assert (
        len(sums) == parts_of_channels(sizes[3])
        and error(sums.sum(0), torch.einsum("bkvc,bjvc->kjc", gradient.double(), rows.double())) < 1e-5
    )


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float16, 2e-3), (torch.bfloat16, 1e-2)])
def test_half_precision(dtype: torch.dtype, limit: float) -> None:
    rows, gradient, matrix = arguments((1, 3, 20, 4), dtype)
    found = launch(rows, matrix)
    assert found.dtype == dtype
    assert error(found, torch.einsum("kjc,bjvc->bkvc", matrix.double(), rows.double())) < limit
    assert error(launch_sums(gradient, rows).sum(0), torch.einsum("bkvc,bjvc->kjc", gradient.double(), rows.double())) < 1e-5


def test_a_matrix_of_other_scales_is_seen() -> None:
    rows, _, matrix = arguments((1, 3, 20, 4))
    assert error(launch(rows, matrix.transpose(0, 1)), torch.einsum("kjc,bjvc->bkvc", matrix.double(), rows.double())) > 0.1
