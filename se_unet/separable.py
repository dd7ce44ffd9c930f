"""Linear operators that act on each axis by itself: one small matrix per axis, applied as a matrix product.

Blur, blur with stride, interpolation and spline resampling are all of this kind. A matrix is (outputs, inputs); a volume's last three
axes are (Z, Y, X). Matrix products run at the full rate of CPUs and GPUs, where one-dimensional depthwise convolutions do not.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

EDGE = 12  # voxels of replicated border for the spline prefilter: its longest memory, 0.27 ** 12, is below 2e-7


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
    """Apply one matrix to each of the last `len(matrices)` axes; None leaves an axis as it is.

    The axis that shrinks most goes first, so that the others have less to do.
    """
    first = x.ndim - len(matrices)
    steps = [(first + position, matrix) for position, matrix in enumerate(matrices) if matrix is not None]
    for axis, matrix in sorted(steps, key=lambda step: step[1].shape[0] / step[1].shape[1]):
        x = apply_along(x, matrix, axis)
    return x


@lru_cache(maxsize=256)
def spline_matrix(n_in: int, n_out: int, order: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Resample an axis of `n_in` voxels to `n_out` voxels of the same extent by B-spline interpolation.

    Voxel edges are aligned (`x_in = (x_out + 1/2) n_in / n_out - 1/2`) and the border is replicated, as in
    `skimage.transform.resize(mode="edge", anti_aliasing=False)`. Order 0 is the nearest voxel, 1 linear, 3 cubic with its prefilter.

    Returns:
        (n_out, n_in); shared between callers: do not change it in place.
    """
    positions = (torch.arange(n_out, dtype=torch.float64) + 0.5) * (n_in / n_out) - 0.5
    return interpolation_matrix(positions, n_in, order).to(dtype)


def interpolation_matrix(positions: Tensor, n_in: int, order: int) -> Tensor:
    """B-spline interpolation of `n_in` voxels at any positions (in voxels), with a replicated border.

    Args:
        positions: (outputs,) float64; those outside the axis take the border's value.
        n_in: voxels of the axis.
        order: 0, 1 or 3.

    Returns:
        (outputs, n_in) float64.

    Raises:
        ValueError: another order, or no voxels.
    """
    if order not in _WEIGHTS or n_in < 1:
        raise ValueError(
            f"spline order must be one of {sorted(_WEIGHTS)} and the axis not empty, not order {order} on {n_in} voxels"
        )
    reach = EDGE // 2 if order == 3 else 0  # a spline goes on smoothly into the replicated border
    positions = positions.clamp(-reach, n_in - 1 + reach) + EDGE
    start, weights = _WEIGHTS[order](positions)
    samples = torch.zeros(len(positions), n_in + 2 * EDGE, dtype=torch.float64)
    samples.scatter_add_(1, start[:, None] + torch.arange(weights.shape[1]), weights)
    if order == 3:
        samples = samples @ _cubic_prefilter(n_in + 2 * EDGE)
    return fold_border(samples, EDGE)


def fold_border(padded: Tensor, border: int) -> Tensor:
    """Turn a matrix over an axis with `border` extra voxels at each end into one over the axis itself, its border replicated."""
    matrix = padded[:, border : padded.shape[1] - border].clone()
    matrix[:, 0] += padded[:, :border].sum(1)
    matrix[:, -1] += padded[:, padded.shape[1] - border :].sum(1)
    return matrix


def gaussian_matrix(n_in: int, sigma: float) -> Tensor:
    """Blur an axis by a sampled Gaussian of `sigma` voxels (at least 0), with a replicated border.

    Returns:
        (n_in, n_in) float64.
    """
    if sigma <= 0:
        return torch.eye(n_in, dtype=torch.float64)
    radius = max(1, round(4 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    return toeplitz_matrix(taps / taps.sum(), n_in)


def toeplitz_matrix(taps: Tensor, n_in: int) -> Tensor:
    """Correlate an axis with `taps` (odd in number, centred), the border replicated.

    Returns:
        (n_in, n_in) of the taps' dtype.
    """
    radius = len(taps) // 2
    padded = torch.zeros(n_in, n_in + 2 * radius, dtype=taps.dtype)
    for offset, tap in enumerate(taps):
        padded.diagonal(offset).fill_(float(tap))
    return fold_border(padded, radius)


def _nearest(positions: Tensor) -> tuple[Tensor, Tensor]:
    return torch.floor(positions + 0.5).long(), torch.ones(len(positions), 1, dtype=torch.float64)


def _linear(positions: Tensor) -> tuple[Tensor, Tensor]:
    start = positions.floor()
    t = positions - start
    return start.long(), torch.stack([1 - t, t], 1)


def _cubic(positions: Tensor) -> tuple[Tensor, Tensor]:
    """The four cubic B-splines that reach a position, and where the first of them sits."""
    start = positions.floor()
    t = positions - start
    weights = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    return start.long() - 1, torch.stack(weights, 1) / 6


@lru_cache(maxsize=64)
def _cubic_prefilter(n: int) -> Tensor:
    """Spline coefficients from samples: the inverse of sampling a cubic B-spline at the integers (1/6, 4/6, 1/6), mirrored ends."""
    system = torch.diag(torch.full((n,), 4 / 6, dtype=torch.float64))
    system.diagonal(1).fill_(1 / 6)
    system.diagonal(-1).fill_(1 / 6)
    system[0, 1 % n] = system[-1, -2 % n] = 2 / 6
    return torch.linalg.inv(system)


_WEIGHTS = {0: _nearest, 1: _linear, 3: _cubic}
