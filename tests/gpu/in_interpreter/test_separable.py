"""The separable kernel has the results of PyTorch's products, at every border, stride and size, and so has its transposed form."""

import pytest
import torch
from torch import Tensor

from configs.network import Border
from se_unet.layers.fused.separable_kernel import launch
from se_unet.layers.fused.tiles import DEPTH, fits
from se_unet.layers.grids import Band, apply_to_rows, band_matrix, band_of
from se_unet.layers.sampling import InterpolateUp

Axes = list[tuple[Tensor, Band]]


def blurs(shape: tuple[int, ...], border: Border, radius: int, stride: int = 1, margin: int = 0, scales: int = 1) -> Axes:
    """Matrices and bands of random taps, which are not symmetric, for the axes (Z, Y, X) of a map."""
    taps = torch.randn(scales, 2 * radius + 1)
    matrices = [band_matrix(taps, n, border, stride, margin) for n in shape]
    return [(matrix, band_of(radius, border, stride, margin)) for matrix in matrices]


def interpolation(shape: tuple[int, ...]) -> Axes:
    layer = InterpolateUp((2, 2, 2), "cubic")
    return [(layer._matrix(n), Band(1, 2, 0, 3)) for n in shape]


def untouched(n: int) -> tuple[Tensor, Band]:
    return torch.eye(n)[None], Band(1, 1, 0, 0)


def transposed(axes: Axes) -> Axes:
    return [(matrix.mT, band.transposed()) for matrix, band in axes]


def rows_for(axes: Axes, channels: int, batch: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    scales = max(len(matrix) for matrix, _ in axes)
    return torch.randn(batch, scales, *(matrix.shape[2] for matrix, _ in axes), channels, dtype=dtype)


def fused(rows: Tensor, axes: Axes) -> Tensor:
    assert fits([band for _, band in axes])
    return launch(rows, [matrix.to(rows.dtype) for matrix, _ in axes], [band for _, band in axes])


def error(rows: Tensor, axes: Axes) -> float:
    """Largest difference from the products, as a share of the largest value."""
    z, y, x = (matrix.double() for matrix, _ in axes)
    expected = apply_to_rows(rows.double(), (z, y, x))
    return float((fused(rows, axes) - expected).abs().max() / expected.abs().max())


def cases() -> dict[str, Axes]:
    torch.manual_seed(0)
    return {
        "replicate": blurs((3, 4, 5), "replicate", 4, margin=1),
        "zero": blurs((4, 3, 2), "zero", 3, margin=1),
        "reflect": blurs((3, 5, 4), "reflect", 2, margin=1),
        "shorter than the taps": blurs((2, 1, 2), "reflect", 5, margin=1),
        "scales": blurs((2, 3, 4), "replicate", 3, margin=1, scales=2),
        "single slice": [untouched(1), *blurs((6, 3), "replicate", 3, margin=1)],
        "anisotropic": [*blurs((5,), "replicate", 2, margin=1), *blurs((4, 4), "replicate", 5, margin=1)],
        "low-pass": blurs((5, 6, 7), "replicate", 6, stride=2),
        "low-pass in plane": [untouched(3), *blurs((6, 7), "replicate", 6, stride=2)],
        "interpolation": interpolation((3, 4, 2)),
        "no margin": blurs((3, 2, 4), "replicate", 0),
        "margin of single taps": blurs((2, 3, 3), "replicate", 0, margin=1),
    }


@pytest.mark.parametrize("name", cases())
def test_it_equals_the_products(name: str) -> None:
    axes = cases()[name]
    assert error(rows_for(axes, 3), axes) < 1e-5
    assert error(rows_for(transposed(axes), 3), transposed(axes)) < 1e-5


def test_many_tiles_and_channels() -> None:
    """Borders of tiles, of blocks of channels and of parts of Z are not seen."""
    torch.manual_seed(0)
    wide = blurs((1, 33, 18), "replicate", 4, margin=1)
    assert error(rows_for(wide, 17, batch=2), wide) < 1e-5
    deep = blurs((DEPTH + 6, 1, 1), "replicate", 2)
    assert error(rows_for(deep, 1), deep) < 1e-5


def test_samples_need_not_follow_each_other() -> None:
    torch.manual_seed(0)
    axes = blurs((2, 3, 3), "replicate", 2)
    both = torch.randn(2, 3, 2, 3, 3, 4)
    assert torch.equal(fused(both[:, 1:2], axes), fused(both[:, 1:2].contiguous(), axes))


def test_half_precision() -> None:
    torch.manual_seed(0)
    axes = blurs((3, 4, 5), "replicate", 4, margin=1)
    rows = rows_for(axes, 8, dtype=torch.float16)
    assert fused(rows, axes).dtype == torch.float16 and error(rows, axes) < 5e-3


def test_the_transposed_matrices_make_the_adjoint() -> None:
    """<B x, y> = <x, B' y>."""
    for axes in (cases()["replicate"], cases()["low-pass"], cases()["interpolation"]):
        x, y = rows_for(axes, 2), rows_for(transposed(axes), 2)
        one, other = (fused(x, axes) * y).double().sum(), (x * fused(y, transposed(axes))).double().sum()
        assert abs(one - other) < 1e-5 * fused(x, axes).norm() * y.norm()


def test_a_wrong_tap_is_seen() -> None:
    """The comparison would fail for a kernel that left out a tap, or the outermost ones, or shifted an axis."""
    axes = cases()["replicate"]
    rows, (matrix, band) = rows_for(axes, 2), axes[0]
    right = fused(rows, axes)
    less = matrix.clone()
    less[0, 2, 1] = 0
    for wrong in ((less, band), (matrix, band._replace(reach=1)), (matrix.roll(1, 1), band)):
        assert (fused(rows, [wrong, *axes[1:]]) - right).abs().max() > 1e-2 * right.abs().max()
