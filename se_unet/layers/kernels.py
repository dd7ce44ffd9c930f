"""The functions of steerable kernels at every scale, made orthonormal by one linear map for all scales and spacings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn

from se_unet.layers.basis import Orders, fitted_factors, fitted_taps, function_orders, sampled_taps

Taps = Literal["factors", "fitted", "sampled"]
BasisOrder = Literal[0, 1, 2, 3, "tensor"]
AxisWidths = tuple[float, float, float]


@dataclass(frozen=True)
class KernelFunctions:
    """Kernel functions of all scales. A kernel is a weighted sum of them, with the same weights at every scale.

    Attributes:
        orders: orders (n_z, n_y, n_x) of the derivatives.
        stencils: (S, F, K_z, K_y, K_x) float64. Along blurred axes, a function is its stencil convolved with the blur.
        blurs: (S, T) float64 taps for each axis, or None for an axis that is not blurred.
    """

    orders: tuple[Orders, ...]
    stencils: Tensor
    blurs: tuple[Tensor | None, Tensor | None, Tensor | None]

    @property
    def dense(self) -> Tensor:
        """The functions including their blur, (S, F, K_z, K_y, K_x) float64, as kernels for `conv3d`."""
        functions = self.stencils
        for axis, blur in enumerate(self.blurs):
            if blur is not None:
                functions = _blur_functions(functions, blur, axis + 2)
        return functions


@lru_cache(maxsize=256)
def kernel_functions(
    sigmas: tuple[AxisWidths, ...],
    active: tuple[bool, bool, bool],
    order: BasisOrder,
    taps: Taps = "factors",
    size: int | None = None,
) -> KernelFunctions:
    """Return the functions of total order up to `order` at every scale, orthonormal for smooth images.

    One linear map, shared by all scales, makes them orthonormal, so that unit weights give unit response. A separate norm for each scale
    would break scale equivariance.

    Args:
        sigmas: width in voxels for each scale and axis (Z, Y, X), ascending in scale.
        active: False for each axis with a single tap.
        order: highest total order, or `tensor` for orders 0..2 on each axis.
        taps: `factors` (a blur and three-tap stencils), `fitted` or `sampled` taps of `size` voxels.
        size: taps per axis for `fitted` and `sampled`; None means 6 sigma + 1 of the widest scale.

    Raises:
        ValueError: `factors` with an order above 2, or widths that the taps cannot represent.
    """
    orders = function_orders(order, active)
    if taps == "factors":
        stencils, blurs = _factor_functions(sigmas, active, orders)
    else:
        stencils, blurs = _tap_functions(sigmas, active, orders, taps, size), (None, None, None)
    return KernelFunctions(orders, torch.einsum("fg,sgzyx->sfzyx", orthonormal_mixing(orders), stencils), blurs)


def _factor_functions(
    sigmas: Sequence[AxisWidths], active: Sequence[bool], orders: Sequence[Orders]
) -> tuple[Tensor, tuple[Tensor | None, Tensor | None, Tensor | None]]:
    if any(n > 2 for triple in orders for n in triple):
        raise ValueError("three-tap stencils hold derivatives up to order 2 per axis; use fitted taps for higher orders")
    blurs: list[Tensor | None] = []
    per_axis = []
    for axis, is_active in enumerate(active):
        factors = [fitted_factors(sigma[axis]) for sigma in sigmas] if is_active else []
        blurs.append(_stack_centred([factor.blur for factor in factors]) if is_active else None)
        per_axis.append(torch.stack([factor.stencils for factor in factors]) if is_active else _single_tap(len(sigmas)))
    return _outer(per_axis, orders), (blurs[0], blurs[1], blurs[2])


def _tap_functions(
    sigmas: Sequence[AxisWidths], active: Sequence[bool], orders: Sequence[Orders], taps: Taps, size: int | None
) -> Tensor:
    function = fitted_taps if taps == "fitted" else sampled_taps
    highest = max(n for triple in orders for n in triple)
    per_axis = []
    for axis, is_active in enumerate(active):
        if not is_active:
            per_axis.append(_single_tap(len(sigmas)))
            continue
        widest = max(sigma[axis] for sigma in sigmas)
        radius = size // 2 if size else max(1, math.ceil(3 * widest))
        per_axis.append(torch.stack([torch.stack([function(s[axis], radius, n) for n in range(highest + 1)]) for s in sigmas]))
    return _outer(per_axis, orders)


def _outer(per_axis: Sequence[Tensor], orders: Sequence[Orders]) -> Tensor:
    """Multiply one-dimensional taps (S, N, K) of each axis into functions (S, F, K_z, K_y, K_x)."""
    z, y, x = (taps[:, [triple[axis] for triple in orders]] for axis, taps in enumerate(per_axis))
    return torch.einsum("sfz,sfy,sfx->sfzyx", z, y, x)


def _single_tap(scales: int) -> Tensor:
    return torch.ones(scales, 1, 1, dtype=torch.float64)


def _stack_centred(taps: Sequence[Tensor]) -> Tensor:
    """Stack taps of different odd lengths, zero-padded about their centres."""
    longest = max(len(tap) for tap in taps)
    return torch.stack([torch.nn.functional.pad(tap, [(longest - len(tap)) // 2] * 2) for tap in taps])


def _blur_functions(functions: Tensor, blur: Tensor, axis: int) -> Tensor:
    """Convolve functions (S, F, ...) with a symmetric blur (S, T) along one axis, keeping the full support."""
    moved = functions.movedim(axis, -1)
    scales, length, width = moved.shape[0], moved.shape[-1], blur.shape[1]
    matrix = torch.zeros(scales, length, length + width - 1, dtype=functions.dtype)
    for position in range(length):
        matrix[:, position, position : position + width] = blur
    return torch.einsum("s...k,skl->s...l", moved, matrix).movedim(-1, axis)


def orthonormal_mixing(orders: Sequence[Orders]) -> Tensor:
    """Return the map (F, F) that makes the functions orthonormal on images about as smooth as the functions are wide.

    Inner products are those of continuous space, `int (iws)^n conj((iws)^m) exp(-w^2 s^2) P(w) dw` along each axis with the spectrum
    `P = exp(-w^2 s^2)`. They do not depend on the grid, so that the same weights serve every spacing. The symmetric inverse root of the
    Gram matrix changes the functions least and treats the axes alike.
    """
    gram = torch.tensor([[math.prod(map(_inner_product, one, other)) for other in orders] for one in orders], dtype=torch.float64)
    values, vectors = torch.linalg.eigh(gram)
    return vectors @ torch.diag(values.rsqrt()) @ vectors.T


def _inner_product(n: int, m: int) -> float:
    """Return the inner product of derivatives n and m along one axis: a moment of a Gaussian, with the phase i^(n - m)."""
    if (n - m) % 2:
        return 0.0
    power = n + m
    moment = math.prod(range(power - 1, 0, -2)) / 4 ** (power // 2)  # (power - 1)!! (1/4)^(power / 2)
    return (-1) ** ((n - m) // 2) * moment / math.sqrt(2)


class FixedFunctions(nn.Module):
    """Kernel functions as buffers, which move with a layer to its device and are not saved with its weights.

    Args:
        functions: kernel functions of all scales.
        profiles: (S, K) taps of the order-0 function for each axis, or None for an axis with a single tap.
        scaling: factor of all functions.
    """

    def __init__(self, functions: KernelFunctions, profiles: Sequence[Tensor | None], scaling: float):
        super().__init__()
        self.have_blurs = any(blur is not None for blur in functions.blurs)
        self.stencils: Tensor
        self.whole: Tensor
        self.register_buffer("stencils", (scaling * functions.stencils).float(), persistent=False)
        self.register_buffer("whole", (scaling * functions.dense).float(), persistent=False)
        self._keep("blur", functions.blurs)
        self._keep("profile", profiles)

    def blurs(self) -> list[Tensor | None]:
        """Return the taps (S, T) of the blur of each axis, as in `KernelFunctions`."""
        return self._kept("blur")

    def profiles(self) -> list[Tensor | None]:
        """Return the taps (S, K) of the order-0 function along each axis."""
        return self._kept("profile")

    def _keep(self, name: str, per_axis: Sequence[Tensor | None]) -> None:
        for axis, taps in zip("zyx", per_axis, strict=True):
            self.register_buffer(f"{name}_{axis}", None if taps is None else taps.float(), persistent=False)

    def _kept(self, name: str) -> list[Tensor | None]:
        return [self._buffers[f"{name}_{axis}"] for axis in "zyx"]
