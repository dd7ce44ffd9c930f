"""One banded matrix for each axis of a map, on a GPU by one kernel where that is right and faster.

The operator `se_unet::separable` is one call for compilers, fake tensors and counters of kernels. Its gradient is the same operator with
the transposed matrices. Maps of other devices never meet it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from se_unet.layers.fused import tiles
from se_unet.layers.fused.choice import TOLERANCE, are_allowed, prefers_fused
from se_unet.layers.grids import Band, apply_to_rows, kept_matrix, per_scale_separable

Matrices = tuple[Tensor | None, Tensor | None, Tensor | None]
UNTOUCHED = Band(1, 1, 0, 0)
LARGEST = 2**30  # values of one sample and scale; the kernel counts places in 32 bits


def banded_separable(x: Tensor, matrices: Matrices, bands: Sequence[Band]) -> Tensor:
    """Apply one matrix for each scale and axis: (B, C, S, Z, Y, X) -> (B, C, S, Z', Y', X') with channels innermost in memory.

    Matrices are (S or 1, outputs, inputs) for each of Z, Y and X with values in their bands, or None for the identity.
    """
    bands = [UNTOUCHED if matrix is None else band for matrix, band in zip(matrices, bands, strict=True)]
    given = [matrix for matrix in matrices if matrix is not None]
    if x.device.type != "cuda" or not given or not _suits(x, bands) or not are_allowed():
        return per_scale_separable(x, matrices)
    rows = _in_autocast(x).movedim(1, -1)
    if not rows[0, 0].is_contiguous():
        rows = rows.contiguous()
    z, y, along_x = (
        _identity(given[0], n).to(rows.dtype) if matrix is None else matrix.to(rows.dtype)
        for matrix, n in zip(matrices, x.shape[3:], strict=True)
    )
    result: Tensor = _separable(rows, z, y, along_x, [number for band in bands for number in band])
    return result.movedim(-1, 1)


def _suits(x: Tensor, bands: Sequence[Band]) -> bool:
    """Return whether the kernel knows the dtype, the size and the bands, those of the gradient included."""
    sizes = x.shape[1] * x.shape[3:].numel() * max(band.in_step for band in bands) ** 3
    return x.dtype in TOLERANCE and sizes < LARGEST and tiles.fits(bands) and tiles.fits([band.transposed() for band in bands])


def _in_autocast(x: Tensor) -> Tensor:
    """Return the map in the type in which autocast would compute a matrix product."""
    return x.to(torch.get_autocast_dtype("cuda")) if torch.is_autocast_enabled("cuda") else x


def _identity(kept_with: Tensor, n: int) -> Tensor:
    """Return the matrix (1, n, n) that leaves an axis alone, kept as long as another matrix."""
    return kept_matrix(kept_with, ("identity", n), lambda: torch.eye(n, dtype=kept_with.dtype, device=kept_with.device)[None])


@torch.library.custom_op("se_unet::separable", mutates_args=(), device_types="cpu")
def _separable(rows: Tensor, z: Tensor, y: Tensor, x: Tensor, bands: list[int]) -> Tensor:
    """Apply matrices to rows (B, S, Z, Y, X, C), of which each sample and scale is contiguous -> (B, S, Z', Y', X', C)."""
    return apply_to_rows(rows.contiguous(), (z, y, x)).contiguous()


@_separable.register_kernel("cuda")
def _on_gpu(rows: Tensor, z: Tensor, y: Tensor, x: Tensor, bands: list[int]) -> Tensor:
    def fused(rows: Tensor) -> Tensor:
        from se_unet.layers.fused.separable_kernel import launch  # needs Triton, which is not everywhere

        return launch(rows, [z, y, x], _bands(bands))

    def plain(rows: Tensor) -> Tensor:
        return apply_to_rows(rows.contiguous(), (z, y, x)).contiguous()

    key = ("separable", rows.device, rows.dtype, rows.shape[1:], tuple(bands))
    return fused(rows) if prefers_fused(key, fused, plain, rows) else plain(rows)


@_separable.register_fake
def _shape(rows: Tensor, z: Tensor, y: Tensor, x: Tensor, bands: list[int]) -> Tensor:
    return rows.new_empty(*rows.shape[:2], z.shape[1], y.shape[1], x.shape[1], rows.shape[-1])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, *matrices, ctx.bands = inputs
    ctx.save_for_backward(*matrices)


def _gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
    z, y, x = (matrix.mT for matrix in ctx.saved_tensors)
    transposed = [number for band in _bands(ctx.bands) for number in band.transposed()]
    return _separable(gradient.contiguous(), z, y, x, transposed), None, None, None, None


_separable.register_autograd(_gradient, setup_context=_keep)


def _bands(numbers: Sequence[int]) -> list[Band]:
    return [Band(*numbers[first : first + 4]) for first in range(0, len(numbers), 4)]
