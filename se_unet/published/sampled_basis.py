"""Hermite-Gaussian kernels sampled on the voxel grid, as in "Scale Equivariant Deep Learning for 3D Data" (Wimmer et al., 2023).

    psi_{n, s}(z, y, x) = s^-3 He_a(z / s) He_b(y / s) He_c(x / s) exp(-(z^2 + y^2 + x^2) / 2 s^2)

with the probabilists' Hermite polynomials He. This basis serves to reproduce the published networks. `se_unet.layers.basis` fits its taps
instead and stays accurate where sampling and truncation fail.
"""

from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch
from torch import Tensor

Mode = Literal["onescale", "multiscale"]


@dataclass(frozen=True)
class SampledBasis:
    """The set of sampled kernels. Widths are in voxels, independent of the spacing.

    Attributes:
        mode: `onescale` has every order below `effective_size` on each axis. `multiscale` has the orders of total order up to
            `max_order`, then the same at `s / mult`, `s / mult^2`, ..., limited to `effective_size^3` functions (so that the highest
            orders along X, and with them the symmetry of the axes, may be missing).
        size: number of taps along each axis; odd.
        scales: widths s in voxels, in any order.
        effective_size: cube root of the number of functions.
        kernel_padding: whether to sample small scales on a smaller odd grid, in proportion to the scale, padded with zeros.
        max_order: highest total order of `multiscale`.
        mult: ratio of the widths within `multiscale`.

    Raises:
        ValueError: the size is even, there is no scale, a width is not positive, or a scale has fewer than three taps.
    """

    mode: Mode = "multiscale"
    size: int = 5
    scales: tuple[float, ...] = (1.0, 0.9, 0.81, 0.729)
    effective_size: int = 3
    kernel_padding: bool = False
    max_order: int = 4
    mult: float = 1.2

    def __post_init__(self) -> None:
        if self.size % 2 == 0 or self.size < 1:
            raise ValueError(f"the kernel size must be odd, not {self.size}: an even grid has no centre voxel")
        if not self.scales or any(not scale > 0 for scale in self.scales):
            raise ValueError(f"scales must be positive widths in voxels, not {self.scales}")
        if self.effective_size < 1 or self.max_order < 0 or not self.mult > 1:
            raise ValueError(f"effective_size >= 1, max_order >= 0 and mult > 1 are needed, not {self}")
        if self.size > 1 and min(self.taps) < 3:
            raise ValueError(
                f"kernel_padding leaves scale {min(self.scales)} fewer than 3 of {self.size} taps; take a larger size"
            )

    @property
    def functions(self) -> int:
        """Number of basis functions."""
        return int(self.effective_size**3)

    @property
    def taps(self) -> tuple[int, ...]:
        """Number of taps along each axis, padding excluded, for each scale."""
        if not self.kernel_padding:
            return (self.size,) * len(self.scales)
        widest = max(self.scales)
        return tuple(int(self.size * scale / widest) // 2 * 2 + 1 for scale in self.scales)

    def sample(self) -> Tensor:
        """Return the sampled kernels (functions, scales, size, size, size) float64."""
        return torch.stack([self._sample_scale(scale, taps) for scale, taps in zip(self.scales, self.taps, strict=True)], dim=1)

    def _sample_scale(self, scale: float, taps: int) -> Tensor:
        """Return the kernels (functions, size, size, size) of one scale."""
        kernels = torch.stack([_kernel(orders, sigma, taps) for orders, sigma in self._functions_at(scale)])
        margin = (self.size - taps) // 2
        return torch.nn.functional.pad(kernels, (margin,) * 6)

    def _functions_at(self, scale: float) -> list[tuple[tuple[int, int, int], float]]:
        """Return the orders (a, b, c) along (Z, Y, X) and the width of every function; the order along Z varies fastest."""
        highest = self.effective_size - 1 if self.mode == "onescale" else self.max_order
        orders = [(a, b, c) for c, b, a in product(range(highest + 1), repeat=3)]
        if self.mode == "onescale":
            return [(order, scale) for order in orders]
        kept = [order for order in orders if sum(order) <= self.max_order]
        return [(kept[i % len(kept)], scale / self.mult ** (i // len(kept))) for i in range(self.functions)]


def normalise_by_first_scale(basis: Tensor) -> Tensor:
    """Divide each function of (functions, scales, Z, Y, X) by its norm at the first scale.

    All scales share the norm of a function; a separate norm for each scale would break the equivariance.
    """
    norms = torch.linalg.vector_norm(basis[:, 0], dim=(1, 2, 3))
    return basis / norms[:, None, None, None, None]


def _kernel(orders: tuple[int, int, int], sigma: float, taps: int) -> Tensor:
    """Return one function on the integer grid -(taps // 2) .. taps // 2, (taps, taps, taps)."""
    grid = torch.arange(taps, dtype=torch.float64) - taps // 2
    gaussian = torch.exp(-(grid**2) / (2 * sigma**2)) / sigma
    z, y, x = (_hermite(order, grid / sigma) * gaussian for order in orders)
    return torch.einsum("z,y,x->zyx", z, y, x)


def _hermite(order: int, x: Tensor) -> Tensor:
    """Return the probabilists' Hermite polynomial: He_0 = 1, He_1 = x, He_{n+1} = x He_n - n He_{n-1}."""
    previous, current = torch.zeros_like(x), torch.ones_like(x)
    for n in range(order):
        previous, current = current, x * current - n * previous
    return current
