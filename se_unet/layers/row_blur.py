"""Blur along X, the axis next to the channels in memory, by a depthwise convolution.

A matrix product would require swapping this axis with the channels and back. oneDNN's two-dimensional depthwise convolution does not,
and is two to three times faster (measured on CPUs with 4 to 32 channels). The other axes use matrix products.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from configs.network import Border
from se_unet.layers.grids import band_matrix

_DTYPES = (torch.float32, torch.bfloat16)


def can_blur_rows(x: Tensor, taps: Tensor, border: Border, margin: int) -> bool:
    """Return whether `blur_rows` supports this map: on CPUs, outside of compilers, and for borders that repeat only the end voxels."""
    on_cpu = x.device.type in ("cpu", "meta")  # costs counted on meta must be those of CPUs
    is_supported = on_cpu and x.dtype in _DTYPES and not torch.compiler.is_compiling()
    return is_supported and border != "reflect" and margin <= taps.shape[-1] // 2


def blur_rows(rows: Tensor, taps: Tensor, border: Border, margin: int) -> Tensor:
    """Correlate contiguous rows (B, Z, Y, X, C) with symmetric taps (T,), T odd, along X -> (B, Z, Y, X + 2 margin, C).

    The border is `replicate` or zeros; `margin`, at most T // 2, voxels beyond each end of X are computed as well.
    """
    result: Tensor = _BlurRows.apply(rows, taps.to(rows.dtype), margin, border == "replicate")
    return result


class _BlurRows(torch.autograd.Function):
    """A zero-padded convolution, plus the contribution of a replicated border: multiples of the two end voxels."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, taps: Tensor, margin: int, replicate: bool) -> Tensor:
        ctx.save_for_backward(taps)
        ctx.margin, ctx.replicate, ctx.length = margin, replicate, rows.shape[3]
        blurred = _correlate(rows, taps, taps.numel() // 2 + margin)
        if replicate:
            for end, (part, weights) in enumerate(_end_weights(taps, ctx.length, margin)):
                blurred[:, :, :, part].addcmul_(weights[:, None], rows[:, :, :, -end, None])
        return blurred

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (taps,) = ctx.saved_tensors
        gradient = gradient.contiguous()
        result = _correlate(gradient, taps, taps.numel() // 2 - ctx.margin)
        if ctx.replicate:
            for end, (part, weights) in enumerate(_end_weights(taps, ctx.length, ctx.margin)):
                result[:, :, :, -end] += torch.einsum("x,bzyxc->bzyc", weights, gradient[:, :, :, part])
        return result, None, None, None


def _correlate(rows: Tensor, taps: Tensor, padding: int) -> Tensor:
    """Correlate X with zero padding: (B, Z, Y, X, C) -> (B, Z, Y, X + 2 padding + 1 - T, C)."""
    b, z, y, x, c = rows.shape
    planes = rows.reshape(b, z * y, x, c).movedim(-1, 1)
    kernel = taps.expand(c, 1, 1, -1).contiguous(memory_format=torch.channels_last)
    return F.conv2d(planes, kernel, padding=(0, padding), groups=c).movedim(1, -1).contiguous().unflatten(1, (z, y))


def _end_weights(taps: Tensor, n: int, margin: int) -> list[tuple[slice, Tensor]]:
    """Return, for the first and the last voxel of X, the outputs that a replicated border changes and by which multiples of the voxel."""
    reach = min(taps.numel() // 2 + margin, n + 2 * margin)
    added = band_matrix(taps[None], n, "replicate", margin=margin) - band_matrix(taps[None], n, "zero", margin=margin)
    if n == 1:
        return [(slice(None), added[0, :, 0])]
    return [(slice(0, reach), added[0, :reach, 0]), (slice(-reach, None), added[0, -reach:, -1])]
