"""Hermite-Gaussian functions on a voxel grid, by one-dimensional taps that are fitted instead of sampled.

A function is defined by its response: the response of function n to an image f is `s^|n| D^n (G_s * f)`, where G_s is a Gaussian of
width s and D^n a derivative of orders n = (n_z, n_y, n_x). Taps `h` act by correlation, as in PyTorch: their response to a plane wave
`e^{iwx}` is `sum_u h(u) e^{iwu}`, which should equal `(i w s)^n exp(-w^2 s^2 / 2)`.

Sampled functions fail for s below 0.6 voxel, and truncation needs 6 s + 1 taps. Fitted taps work for any width, spacing and number of
taps; `docs/explanation/scale_equivariance.md` has the measurements.
"""

import math
from functools import lru_cache
from itertools import product
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Orders = tuple[int, int, int]
MAX_ORDER = 3
FREQUENCIES = 512


def function_orders(order: int | Literal["tensor"], in_plane: tuple[bool, bool, bool] = (True, True, True)) -> tuple[Orders, ...]:
    """Return the orders (n_z, n_y, n_x) of the basis functions.

    Args:
        order: highest total order (10 functions in 3D for order 2, 20 for order 3; both sets are closed under swaps of axes), or
            `tensor` for the 27 products of orders 0..2.
        in_plane: False for each axis along which the kernel has a single tap and therefore no derivative.
    """
    highest = 2 if order == "tensor" else order
    per_axis = [range(highest + 1) if active else range(1) for active in in_plane]
    orders = [(z, y, x) for z, y, x in product(*per_axis) if order == "tensor" or z + y + x <= highest]
    return tuple(sorted(orders, key=lambda orders: (sum(orders), orders)))


@lru_cache(maxsize=1024)
def fitted_taps(sigma: float, radius: int, order: int) -> Tensor:
    """Return the taps of a derivative of a Gaussian, fitted by least squares over frequencies with exact moments.

    The taps minimise `int P(w) |sum_u h(u) e^{iwu} - (i w s)^n exp(-w^2 s^2 / 2)|^2 dw` under `sum_u u^m h(u) = 0` for m < n and
    `sum_u u^n h(u) = n! s^n`, where P(w) is the spectrum of a smooth image.

    Args:
        sigma: width s in voxels.
        radius: offset of the outermost taps, which reach from -radius to radius.
        order: order n of the derivative, at most 3.

    Returns:
        (2 radius + 1,) float64, shared between callers: do not change it in place.

    Raises:
        ValueError: the taps are too few for the order, or the width is not positive.
    """
    if not sigma > 0 or not 0 <= order <= MAX_ORDER or 2 * radius < order:
        raise ValueError(f"order {order} at sigma {sigma} cannot be fitted with {2 * radius + 1} taps")
    waves, spectrum = _frequencies()
    free = _symmetric_atoms(radius, order % 2)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    sign = (-1.0) ** (order // 2)  # i^n; for odd orders, both sides are divided by i
    target = sign * (waves * sigma) ** order * torch.exp(-0.5 * (waves * sigma) ** 2)
    carriers = torch.cos(waves[:, None] * offsets) if order % 2 == 0 else torch.sin(waves[:, None] * offsets)
    moments = [m for m in range(order + 1) if (m - order) % 2 == 0]
    constraints = torch.stack([offsets**m for m in moments]) @ free
    wanted = torch.tensor([math.factorial(order) * sigma**order if m == order else 0.0 for m in moments], dtype=torch.float64)
    return free @ constrained_least_squares(carriers @ free, target, spectrum, constraints, wanted)


class Factors(NamedTuple):
    """A blur and a three-tap stencil for each order; their convolution approximates a derivative of a Gaussian."""

    blur: Tensor  # (2 radius + 1,) symmetric taps that sum to 1
    stencils: Tensor  # (3, 3) taps of orders 0, 1 and 2


@lru_cache(maxsize=1024)
def fitted_factors(sigma: float) -> Factors:
    """Return a blur and stencils d_0, d_1, d_2 such that `blur * d_n` approximates the derivative of order n of a Gaussian.

    `D^n G_s = D^n (G_s' * G_r)`: at any width, a convolution is a blur, shared by all functions, followed by a stencil of three taps. The
    moments determine d_1 = s / 2 (-1, 0, 1) and d_2 = s^2 (1, -2, 1); d_0 = (c, 1 - 2c, c) and the blur are fitted.

    Args:
        sigma: width s in voxels, at least 0.3.

    Returns:
        Factors in float64, shared between callers: do not change them in place.

    Raises:
        ValueError: the width is below 0.3 voxel, where a voxel grid cannot represent the functions.
    """
    if not sigma >= 0.3:
        raise ValueError(f"a Gaussian of sigma {sigma} voxel is too narrow for the voxel grid; use at least 0.3 voxel")
    candidates = [_fit_blur(sigma, float(c)) for c in torch.linspace(0, 0.25, 26)]
    return min(candidates, key=lambda candidate: candidate[0])[1]


def constrained_least_squares(design: Tensor, target: Tensor, weights: Tensor, constraints: Tensor, wanted: Tensor) -> Tensor:
    """Minimise `sum w (design x - target)^2` under `constraints x = wanted`, by the Karush-Kuhn-Tucker system."""
    normal = design.T @ (weights[:, None] * design)
    count, bound = normal.shape[0], constraints.shape[0]
    system = torch.zeros(count + bound, count + bound, dtype=design.dtype)
    system[:count, :count] = normal
    system[:count, count:] = constraints.T
    system[count:, :count] = constraints
    right = torch.cat([design.T @ (weights * target), wanted])
    return torch.linalg.lstsq(system, right[:, None], driver="gelsd").solution[:count, 0]


def _frequencies() -> tuple[Tensor, Tensor]:
    """Return frequencies from 0 to Nyquist, and the spectrum of features smoothed by 0.9 voxel plus a small constant."""
    waves = torch.linspace(0, math.pi, FREQUENCIES, dtype=torch.float64)
    return waves, torch.exp(-0.81 * waves**2) + 1e-3


def _symmetric_atoms(radius: int, parity: int) -> Tensor:
    """Return a basis (2 radius + 1, unknowns) of the even (parity 0) or odd (parity 1) taps."""
    columns = []
    for offset in range(parity, radius + 1):
        column = torch.zeros(2 * radius + 1, dtype=torch.float64)
        column[radius - offset] += -1.0 if parity else 1.0
        column[radius + offset] += 1.0
        columns.append(column)
    return torch.stack(columns, 1)


def _fit_blur(sigma: float, centre: float) -> tuple[float, Factors]:
    """Return the error and the factors of the best blur for d_0 = (c, 1 - 2c, c), where c is `centre`."""
    waves, spectrum = _frequencies()
    stencils = torch.tensor([[centre, 1 - 2 * centre, centre], [-sigma / 2, 0, sigma / 2], [sigma**2, -2 * sigma**2, sigma**2]],
                            dtype=torch.float64)  # fmt: skip
    answers = [1 - 2 * centre * (1 - torch.cos(waves)), sigma * torch.sin(waves), 2 * sigma**2 * (torch.cos(waves) - 1)]
    envelope = torch.exp(-0.5 * (waves * sigma) ** 2)
    targets = [envelope, waves * sigma * envelope, -((waves * sigma) ** 2) * envelope]
    scales = [(spectrum * target**2).sum().rsqrt() for target in targets]
    radius = max(2, math.ceil(4 * sigma))
    free = _symmetric_atoms(radius, 0)
    carriers = torch.cos(waves[:, None] * torch.arange(-radius, radius + 1, dtype=torch.float64)) @ free
    design = torch.cat([scale * answer[:, None] * carriers for scale, answer in zip(scales, answers, strict=True)])
    target = torch.cat([scale * target for scale, target in zip(scales, targets, strict=True)])
    weights = spectrum.repeat(3)
    solution = constrained_least_squares(design, target, weights, free.sum(0)[None], torch.ones(1, dtype=torch.float64))
    error = float((weights * (design @ solution - target) ** 2).sum())
    return error, Factors(free @ solution, stencils)


def sampled_taps(sigma: float, radius: int, order: int) -> Tensor:
    """Return the derivative of a Gaussian sampled at the voxels, for comparison with fitted taps.

    Returns:
        (2 radius + 1,) float64: `(-s)^n D^n G_s` at the integers, which acts by correlation as the fitted taps do.
    """
    u = torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma
    hermite = [torch.ones_like(u), u, u**2 - 1, u**3 - 3 * u][order]
    return hermite * torch.exp(-0.5 * u**2) / (sigma * math.sqrt(2 * math.pi))
