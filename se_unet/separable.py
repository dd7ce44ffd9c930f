"""Separable linear operators: one small matrix for each axis, applied as a matrix product.

Blur, blur with stride, interpolation and spline resampling are of this kind. A matrix is (outputs, inputs); the last three axes of a
volume are (Z, Y, X). Matrix products reach the full rate of CPUs and GPUs; one-dimensional depthwise convolutions do not.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, wraps
from typing import ParamSpec

import torch
import torch.nn.functional as F
from torch import Tensor


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Disable autocast inside the block. The device `meta` computes nothing and does not support autocast."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


P = ParamSpec("P")
REACH = 6  # voxels beyond the border up to which a cubic spline is evaluated
EDGE = REACH + 14  # voxels of replicated border for the spline prefilter, which decays to 0.27 ** 12 < 2e-7 over 12 voxels


def keep(build: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Cache the last 256 matrices, which callers share and must not change in place.

    While a compiler or an exporter traces, each matrix is built again, so that its construction becomes part of the trace.
    """
    kept = lru_cache(maxsize=256)(build)

    @wraps(build)
    def kept_unless_traced(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        if torch.compiler.is_compiling():
            return build(*args, **kwargs)
        with torch.inference_mode(False):  # the next caller may need gradients
            return kept(*args, **kwargs)  # type: ignore[arg-type]  # callers pass hashable arguments

    return kept_unless_traced


def apply_along(x: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Apply `matrix` (outputs, inputs) along one axis of `x`.

    Raises:
        ValueError: the matrix does not fit the axis.
    """
    axis %= x.ndim
    if matrix.shape[-1] != x.shape[axis]:
        raise ValueError(f"a matrix for {matrix.shape[-1]} inputs does not fit axis {axis} of {tuple(x.shape)}")
    if axis == x.ndim - 1:
        return x @ matrix.T
    rows = x.reshape(*x.shape[: axis + 1], -1)
    return (matrix @ rows).reshape(*x.shape[:axis], matrix.shape[0], *x.shape[axis + 1 :])


def apply_separable(x: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    """Apply one matrix to each of the last `len(matrices)` axes; None leaves an axis unchanged.

    The axis that shrinks most comes first, which reduces the work along the others.
    """
    first = x.ndim - len(matrices)
    steps = [(first + position, matrix) for position, matrix in enumerate(matrices) if matrix is not None]
    for axis, matrix in sorted(steps, key=lambda step: step[1].shape[0] / step[1].shape[1]):
        x = apply_along(x, matrix, axis)
    return x


@keep
def spline_matrix(n_in: int, n_out: int, order: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return the B-spline resampling of an axis of `n_in` voxels to `n_out` voxels of the same extent.

    Voxel edges are aligned (`x_in = (x_out + 1/2) n_in / n_out - 1/2`) and the border is replicated, as in
    `skimage.transform.resize(mode="edge", anti_aliasing=False)`. Order 0 is the nearest voxel, 1 linear, 3 cubic with prefilter.

    Returns:
        (n_out, n_in), shared between callers: do not change it in place.
    """
    positions = (torch.arange(n_out, dtype=torch.float64) + 0.5) * (n_in / n_out) - 0.5
    return interpolation_matrix(positions, n_in, order).to(dtype)


def interpolation_matrix(positions: Tensor, n_in: int, order: int) -> Tensor:
    """Return the B-spline interpolation (outputs, n_in) of an axis at positions (outputs,) in voxels, with a replicated border.

    The order is 0, 1 or 3. The matrix has the precision and the device of the floating-point positions.

    Raises:
        ValueError: the order is not supported, or the axis has no voxels.
    """
    if order not in _WEIGHTS or n_in < 1:
        raise ValueError(
            f"spline order must be one of {sorted(_WEIGHTS)} and the axis not empty, not order {order} on {n_in} voxels"
        )
    reach = REACH if order == 3 else 0  # a cubic spline continues smoothly into the replicated border
    positions = positions.clamp(-reach, n_in - 1 + reach) + EDGE
    start, weights = _WEIGHTS[order](positions)
    samples = torch.zeros(len(positions), n_in + 2 * EDGE, dtype=positions.dtype, device=positions.device)
    samples = samples.scatter_add(1, start[:, None] + torch.arange(weights.shape[1], device=positions.device), weights)
    if order == 3:
        samples = samples @ _cubic_prefilter(n_in + 2 * EDGE, positions)
    return fold_border(samples, EDGE)


def fold_border(padded: Tensor, border: int) -> Tensor:
    """Turn a matrix over an axis with `border` extra voxels at each end into one over the axis itself with a replicated border."""
    n = padded.shape[1] - 2 * border
    first, last = padded[:, :border].sum(1, keepdim=True), padded[:, border + n :].sum(1, keepdim=True)
    return padded[:, border : border + n] + F.pad(first, (0, n - 1)) + F.pad(last, (n - 1, 0))


def gaussian_matrix(n_in: int, sigma: float, dtype: torch.dtype = torch.float64, device: torch.device | None = None) -> Tensor:
    """Return the blur (n_in, n_in) of an axis by a sampled Gaussian of `sigma` >= 0 voxels, with a replicated border."""
    if sigma <= 0:
        return torch.eye(n_in, dtype=dtype, device=device)
    radius = max(1, round(4 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=dtype, device=device) / sigma) ** 2)
    return toeplitz_matrix(taps / taps.sum(), n_in)


def toeplitz_matrix(taps: Tensor, n_in: int) -> Tensor:
    """Return the correlation of an axis with an odd number of centred taps, with a replicated border.

    Returns:
        (n_in, n_in) in the precision and on the device of the taps.
    """
    radius = len(taps) // 2
    offsets = torch.arange(-radius, radius + 1, device=taps.device)
    positions = (torch.arange(n_in, device=taps.device)[:, None] + offsets).clamp(0, n_in - 1)
    return torch.zeros(n_in, n_in, dtype=taps.dtype, device=taps.device).scatter_add(1, positions, taps.expand(n_in, -1))


def _nearest(positions: Tensor) -> tuple[Tensor, Tensor]:
    return torch.floor(positions + 0.5).long(), torch.ones_like(positions)[:, None]


def _linear(positions: Tensor) -> tuple[Tensor, Tensor]:
    start = positions.floor()
    t = positions - start
    return start.long(), torch.stack([1 - t, t], 1)


def _cubic(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the voxel of the first of the four cubic B-splines that reach a position, and the weights of all four."""
    start = positions.floor()
    t = positions - start
    weights = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    return start.long() - 1, torch.stack(weights, 1) / 6


def _cubic_prefilter(n: int, like: Tensor) -> Tensor:
    """Return the cubic spline prefilter (n, n), which computes spline coefficients from samples of a long axis.

    It inverts the sampling of a cubic B-spline at the integers (1/6, 4/6, 1/6); its taps are `sqrt(3) (sqrt(3) - 2)^|k|`
    (Unser et al. 1993).
    """
    k = torch.arange(n, device=like.device)
    distance = (k[:, None] - k).abs().to(like.dtype)
    return math.sqrt(3) * (1 - 2 * (distance % 2)) * (2 - math.sqrt(3)) ** distance


_WEIGHTS = {0: _nearest, 1: _linear, 3: _cubic}
