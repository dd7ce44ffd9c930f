"""A product over the scales of each voxel and channel, on a GPU by one kernel for the result and two for the gradients.

    y(k, v, c) = sum_j m(k, j, c) x(j, v, c)

The operator `se_unet::scale_product` is one call for compilers, fake tensors and counters of kernels. The gradient of the maps is the same
operator with the transposed matrix.
"""

from typing import Any

import torch
from torch import Tensor

from se_unet.layers.fused.choice import TOLERANCE, Function, are_allowed, prefers_fused

MOST_SCALES = 4  # a program keeps a block of each input and a sum for each pair of scales
PROGRAMS = 256  # that share the sums for the matrix, enough for all multiprocessors of a GPU
COLUMNS = 64  # most channels of a program


def parts_of_channels(channels: int) -> int:
    """Return the number of parts of the voxels in which the sums for the matrix are taken."""
    return max(1, PROGRAMS // -(-channels // COLUMNS))


def suits(x: Tensor, fused: Function, plain: Function) -> bool:
    """Return whether `fused`, a mixing by `scale_product`, is to be used for maps (B, C, S, Z, Y, X) instead of `plain`.

    Both return one tensor that holds results or gradients.
    """
    if x.device.type != "cuda" or not are_allowed() or x.shape[2] > MOST_SCALES or x[0].numel() >= 2**31:
        return False
    if x.dtype not in TOLERANCE:
        return False
    return prefers_fused(("mixing", x.device, x.dtype, x.shape[1:]), fused, plain, x)


def scale_product(x: Tensor, matrix: Tensor) -> Tensor:
    """Apply a matrix (S, S, C) float32 to the scales of a map (B, C, S, Z, Y, X); the result has channels innermost in memory."""
    rows = x.movedim(1, -1).contiguous()
    result: Tensor = _product(rows.flatten(2, -2), matrix)
    return result.view(rows.shape).movedim(-1, 1)


@torch.library.custom_op("se_unet::scale_product", mutates_args=(), device_types="cpu")
def _product(rows: Tensor, matrix: Tensor) -> Tensor:
    """Apply a matrix (S, S, C) to rows (B, S, voxels, C)."""
    return torch.einsum("kjc,bjvc->bkvc", matrix, rows.to(matrix.dtype)).to(rows.dtype).contiguous()


@_product.register_kernel("cuda")
def _product_on_gpu(rows: Tensor, matrix: Tensor) -> Tensor:
    from se_unet.layers.fused.mixing_kernel import launch  # needs Triton, which is not everywhere

    return launch(rows, matrix)


@_product.register_fake
def _product_shape(rows: Tensor, matrix: Tensor) -> Tensor:
    return torch.empty_like(rows)


@torch.library.custom_op("se_unet::scale_product_sums", mutates_args=(), device_types="cpu")
def _sums(gradient: Tensor, rows: Tensor) -> Tensor:
    """Return the gradient of the matrix from that of the result (B, S, voxels, C), over parts of the voxels: (parts, S, S, C) float32."""
    number_type = torch.promote_types(rows.dtype, torch.float32)
    whole = torch.einsum("bkvc,bjvc->kjc", gradient.to(number_type), rows.to(number_type))
    return torch.cat([whole[None], whole.new_zeros(parts_of_channels(rows.shape[3]) - 1, *whole.shape)])


@_sums.register_kernel("cuda")
def _sums_on_gpu(gradient: Tensor, rows: Tensor) -> Tensor:
    from se_unet.layers.fused.mixing_kernel import launch_sums

    return launch_sums(gradient, rows)


@_sums.register_fake
def _sums_shape(gradient: Tensor, rows: Tensor) -> Tensor:
    scales, channels = rows.shape[1], rows.shape[3]
    return rows.new_empty(
        parts_of_channels(channels), scales, scales, channels, dtype=torch.promote_types(rows.dtype, torch.float32)
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
    rows, matrix = ctx.saved_tensors
    gradient = gradient.contiguous()
    return _product(gradient, matrix.transpose(0, 1)), _sums(gradient, rows).sum(0)


_product.register_autograd(_gradients, setup_context=_keep)
