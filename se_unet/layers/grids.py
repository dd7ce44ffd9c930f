"""Separable operators for each scale of a scale-feature map: blur, low-pass with stride, interpolation.

A scale-feature map is (B, C, S, Z, Y, X). In memory the channels are innermost, (B, S, Z, Y, X, C), the fastest layout for convolutions,
norms and matrix products. Every function here accepts any memory layout and returns this one.
"""

from collections.abc import Callable, Hashable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from configs.network import Border

# From this many channels, many small products take half the time of one large one (measured on CPUs, without gradients).
_WIDE = 16
_MOST_KEPT = 16  # matrices for the same taps; patches have the same size all the time
_kept: WeakIdKeyDictionary = WeakIdKeyDictionary()  # taps -> key -> matrix, as long as the taps live


class Band(NamedTuple):
    """Where the matrix of an axis has values: at output a and input b only if |out_step * a - in_step * b - offset| <= reach."""

    out_step: int
    in_step: int
    offset: int
    reach: int

    def transposed(self) -> "Band":
        """Return the band of the transposed matrix."""
        return Band(self.in_step, self.out_step, -self.offset, self.reach)


def channels_innermost(x: Tensor) -> Tensor:
    """Return the map with its channels innermost in memory, without a copy where they are already."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def kept_matrix(taps: Tensor, key: Hashable, build: Callable[[], Tensor]) -> Tensor:
    """Return the matrix that `build` makes of constant taps, which is kept as long as the taps live. Do not change it in place.

    Building takes about twenty small kernels, more than everything else that a layer starts on a GPU. While a compiler or an exporter
    traces, each matrix is built again, so that its construction becomes part of the trace.

    Args:
        taps: buffer of a layer; a changed or moved buffer has matrices of its own.
        key: everything else on which the matrix depends.
        build: function that makes it.
    """
    if torch.compiler.is_compiling() or taps.requires_grad or taps.is_inference():
        return build()
    of_taps = _kept.setdefault(taps, {})
    key = (key, taps._version)
    matrix: Tensor | None = of_taps.get(key)
    if matrix is None:
        with torch.inference_mode(False), torch.no_grad():  # the next caller may need gradients
            matrix = build()
        if len(of_taps) >= _MOST_KEPT:
            of_taps.clear()  # by any of several threads, so nothing below may read it
        of_taps[key] = matrix
    return matrix


def kept_band_matrix(taps: Tensor, n: int, border: Border, margin: int, dtype: torch.dtype) -> Tensor:
    """Return `band_matrix` of a layer's taps (S, T) in a number type, kept as in `kept_matrix`."""
    key = ("band", n, border, margin, dtype)
    return kept_matrix(taps, key, lambda: band_matrix(taps, n, border, margin=margin).to(dtype))


def band_matrix(taps: Tensor, n: int, border: Border = "replicate", stride: int = 1, margin: int = 0) -> Tensor:
    """Return the correlation of an axis of n voxels with (S, T) taps, T odd: one matrix (S, outputs, n) per scale, in the taps' dtype.

    `renormalise` uses zeros beyond the ends here; the caller divides by the coverage. The outputs are every stride-th voxel, from the
    first, and with stride 1 also `margin` voxels beyond each end.
    """
    radius = taps.shape[1] // 2
    # The ONNX export of PyTorch 2.10 would use floats if the dtype were not given.
    centres = torch.arange(-margin, n + margin, stride, dtype=torch.int64, device=taps.device)
    positions = centres[:, None] + torch.arange(-radius, radius + 1, device=taps.device)
    rows = taps[:, None].expand(-1, len(centres), -1)
    if border in ("zero", "renormalise"):
        rows = rows * ((positions >= 0) & (positions < n))
    elif border == "reflect" and n > 1:
        period = 2 * (n - 1)
        positions = (n - 1) - ((positions % period) - (n - 1)).abs()
    positions = positions.clamp(0, n - 1).expand(taps.shape[0], -1, -1)
    matrix = torch.zeros(taps.shape[0], len(centres), n, dtype=taps.dtype, device=taps.device)
    return matrix.scatter_add(2, positions, rows)


def band_of(radius: int, border: Border = "replicate", stride: int = 1, margin: int = 0) -> Band:
    """Return the band of `band_matrix` with taps of a radius; a border moves no value farther than its margin is wide."""
    return Band(stride, 1, margin, radius + 2 * margin if border == "reflect" else max(radius, margin))


def per_scale_separable(x: Tensor, matrices: tuple[Tensor | None, Tensor | None, Tensor | None]) -> Tensor:
    """Apply one matrix for each scale and axis: (B, C, S, Z, Y, X) -> (B, C, S, Z', Y', X') with channels innermost in memory.

    Matrices are (S or 1, outputs, inputs) for each of Z, Y and X, or None for the identity.
    """
    return apply_to_rows(x.movedim(1, -1).contiguous(), matrices).contiguous().movedim(-1, 1)


def apply_to_rows(rows: Tensor, matrices: tuple[Tensor | None, Tensor | None, Tensor | None]) -> Tensor:
    """Apply one matrix for each scale and axis, as `per_scale_separable` does, to contiguous rows (B, S, Z, Y, X, C)."""
    steps = [(axis, matrix) for axis, matrix in enumerate(matrices) if matrix is not None]
    # X is the most expensive axis, so it comes last where the map shrinks and first where it grows.
    for axis, matrix in sorted(
        steps, key=lambda step: (growth := step[1].shape[1] / step[1].shape[2], -step[0] if growth > 1 else step[0])
    ):
        rows = _apply(rows, matrix.to(rows.dtype), axis)
    return rows


def _apply(rows: Tensor, matrix: Tensor, axis: int) -> Tensor:
    b, s, z, y, x, c = rows.shape
    outputs = matrix.shape[1]
    if axis == 0:
        return (matrix @ rows.reshape(b, s, z, y * x * c)).reshape(b, s, outputs, y, x, c)
    if axis == 1:
        return (matrix[:, None] @ rows.reshape(b, s, z, y, x * c)).reshape(b, s, z, outputs, x, c)
    if s == 1 and rows.device.type == "cuda":  # products of a broadcast matrix, without a copy
        return matrix[:, None, None] @ rows
    if c >= _WIDE and rows.device.type == "cpu" and not (rows.requires_grad or torch.compiler.is_compiling()):
        return matrix[:, None, None] @ rows
    # One large product instead of many small ones: X has to be the last axis for this.
    columns = rows.transpose(-1, -2).reshape(b, s, z * y * c, x)
    return (columns @ matrix.mT).reshape(b, s, z, y, c, outputs).transpose(-1, -2)
