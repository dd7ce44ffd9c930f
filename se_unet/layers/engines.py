"""Two implementations (engines) of the same steerable convolution, and the choice between them.

`factorised` blurs each scale by matrix products and then applies a kernel of three taps, which is cheap for wide kernels. `dense` applies
the whole kernel, which takes fewer calls and is cheap for narrow kernels.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from configs.network import Border
from se_unet.layers.fused.separable import banded_separable
from se_unet.layers.grids import band_matrix, band_of, channels_innermost, kept_band_matrix, per_scale_separable
from se_unet.layers.row_blur import blur_rows, can_blur_rows

Engine = Literal["factorised", "dense"]


def choose_engine(device: torch.device, can_factorise: bool) -> Engine:
    """Return the faster engine. On CPUs, `factorised` is faster at every width from sigma 0.6 voxel (`benchmarks/cost/layers.py`)."""
    del device  # the choice is the same on all devices so far
    return "factorised" if can_factorise else "dense"


def factorised(x: Tensor, blurs: Sequence[Tensor | None], kernels: Tensor, bias: Tensor | None, border: Border) -> Tensor:
    """Blur each scale, then convolve with its own small kernel: (B, I, S, Z, Y, X) -> (B, O, S, Z, Y, X).

    S = 1 is an image that is lifted to all scales. Blurs are (S, T) taps for each axis, or None; kernels are (S, O, I, K_z, K_y, K_x), and
    the bias (O,) is shared by the scales.
    """
    margins = [size // 2 for size in kernels.shape[3:]]
    maps = [rows.movedim(-1, 1) for rows in _scales_of(channels_innermost(x).movedim(1, -1))]
    outputs = []
    for k, kernel in enumerate(
        _unbound(kernels, 0)
    ):  # one after the other, so that each stays in a CPU's cache from step to step
        one = maps[k if len(maps) > 1 else 0]
        outputs.append(_convolve(blurred(one, blurs, margins, border, k), kernel, bias))
    return _stack_scales(outputs)


def blurred(x: Tensor, blurs: Sequence[Tensor | None], margins: Sequence[int], border: Border, scale: int = 0) -> Tensor:
    """Blur a map (B, C, Z, Y, X) of one scale -> (B, C, Z', Y', X') with channels innermost in memory.

    Blurs are (S, T) taps for each axis, or None, of which those of the scale are used. The result has `margins` more voxels beyond either
    end of each axis.
    """
    z, y, along_x = blurs
    if along_x is not None and can_blur_rows(x, along_x, border, margins[2]):
        rows = blur_rows(x.movedim(1, -1).contiguous(), along_x[scale], border, margins[2])[:, None].movedim(-1, 1)
        along_x = None
    else:
        rows = x[:, :, None]
    all_scales = [
        None if taps is None else kept_band_matrix(taps, n, border, margin, x.dtype)
        for taps, n, margin in zip((z, y, along_x), x.shape[2:], margins, strict=True)
    ]
    # A matrix for one scale stays the object that is kept, since others may be kept with it.
    matrices = [one if one is None or len(one) == 1 else one[scale : scale + 1] for one in all_scales]
    bands = [
        band_of(0 if taps is None else taps.shape[1] // 2, border, 1, margin) for taps, margin in zip(blurs, margins, strict=True)
    ]
    return banded_separable(rows, (matrices[0], matrices[1], matrices[2]), bands).squeeze(2)


def dense(x: Tensor, kernels: Tensor, bias: Tensor | None, border: Border) -> Tensor:
    """Convolve each scale with its whole kernel; arguments and result are those of `factorised`."""
    margins = [size // 2 for size in kernels.shape[3:]]
    identity = torch.ones(1, 1, dtype=kernels.dtype, device=kernels.device)
    matrices = [
        band_matrix(identity, n, border, margin=margin) if margin else None
        for n, margin in zip(x.shape[3:], margins, strict=True)
    ]
    padded = per_scale_separable(x, (matrices[0], matrices[1], matrices[2]))
    if x.shape[2] == 1:
        return _lift(padded, kernels, bias)
    return _each_scale(padded, kernels, bias)


def coverage(profiles: Sequence[Tensor | None], shape: Sequence[int]) -> Tensor:
    """Return the share of the order-0 function that lies inside the image, by which the border `renormalise` divides: (1, 1, S, Z, Y, X).

    Profiles are (S, T) taps of order 0 for each axis, or None; the shape of the image is (Z, Y, X) in voxels.
    """
    total: Tensor | None = None
    for axis, (profile, n) in enumerate(zip(profiles, shape, strict=True)):
        if profile is not None:
            inside = band_matrix(profile, n, "zero").sum(2)
            inside = inside.reshape(1, 1, -1, *[n if position == axis else 1 for position in range(3)])
            total = inside if total is None else total * inside
    return torch.ones(1, 1, 1, 1, 1, 1) if total is None else total


def _each_scale(x: Tensor, kernels: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve each scale without padding. For channels-last maps, separate calls are faster than one grouped call."""
    scales = _scales_of(x.movedim(1, -1))
    return _stack_scales([_convolve(rows.movedim(-1, 1), kernel, bias) for rows, kernel in zip(scales, kernels, strict=True)])


def _scales_of(rows: Tensor) -> Sequence[Tensor]:
    """Divide (B, S, Z, Y, X, C) into maps of one scale, by operators whose gradients take the least memory.

    The gradient of indexing is a map of zeros for each scale, that of unbinding a copy of all scales.
    """
    return _unbound(rows, 1)


def _unbound(x: Tensor, axis: int) -> Sequence[Tensor]:
    """Divide a tensor along an axis, without a copy of the gradient where there is one part."""
    return (x.squeeze(axis),) if x.shape[axis] == 1 else x.unbind(axis)


def _convolve(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve (B, I, Z, Y, X) with (O, I, K_z, K_y, K_x) -> (B, O, Z', Y', X')."""
    return F.conv3d(x, kernel.contiguous(memory_format=torch.channels_last_3d), bias)


def _stack_scales(outputs: Sequence[Tensor]) -> Tensor:
    """Stack one map (B, O, Z, Y, X) per scale -> (B, O, S, Z, Y, X) with channels innermost; a single one is not copied."""
    if len(outputs) == 1:
        return channels_innermost(outputs[0][:, :, None])
    return torch.stack([output.movedim(1, -1) for output in outputs], 1).movedim(-1, 1)


def _lift(x: Tensor, kernels: Tensor, bias: Tensor | None) -> Tensor:
    """Compute all scales of an image by one convolution with scales x outputs filters."""
    scales, outputs = kernels.shape[:2]
    result = F.conv3d(x[:, :, 0], kernels.flatten(0, 1), None if bias is None else bias.repeat(scales))
    return channels_innermost(result.unflatten(1, (scales, outputs)).transpose(1, 2))
