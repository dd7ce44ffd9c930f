"""Measure the scale equivariance of a layer, a network or any other module, and require it in a test.

With `(L_a f)(x) = f(x / a)`, a module is equivariant where `module(L_a f) = L_a module(f)`. For scale-feature maps, L_a also moves the
content to the scale that is `a` times as wide. The inputs are sums of plane waves, which can be rescaled without interpolation.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from se_unet.separable import apply_separable, interpolation_matrix

WAVES = 192


class PlaneWaves:
    """A random field that can be sampled at any position: white noise smoothed by a Gaussian, as a sum of plane waves.

    Args:
        channels: number of independent fields.
        smoothing: width of the Gaussian in voxels; the power spectrum is `exp(-smoothing^2 |w|^2)`.
        generator: generator of the random waves.
    """

    def __init__(self, channels: int, smoothing: float, generator: torch.Generator):
        self._waves = torch.randn(channels, WAVES, 3, generator=generator, dtype=torch.float64) / (math.sqrt(2) * smoothing)
        self._phases = 2 * math.pi * torch.rand(channels, WAVES, generator=generator, dtype=torch.float64)

    def sample(self, size: int, origin: int, factor: float, stretch: Sequence[float] = (1, 1, 1)) -> Tensor:
        """Return the field enlarged by `factor` about voxel `origin`: (channels, size, size, size) float32 of unit variance.

        Args:
            size: voxels per axis.
            origin: index, on each axis, of the voxel that does not move.
            factor: enlargement a; the field is read at x / a.
            stretch: voxel size per axis.
        """
        positions = (torch.arange(size, dtype=torch.float64) - origin) / factor
        axes = [torch.exp(1j * self._waves[..., axis, None] * positions * stretch[axis]) for axis in range(3)]
        axes[0] = axes[0] * torch.exp(1j * self._phases)[..., None]
        total = torch.einsum("cnz,cny,cnx->czyx", *axes).real
        return (total * math.sqrt(2 / WAVES)).float()


@torch.no_grad()
def equivariance_error(
    module: Callable[[Tensor], Tensor],
    factor: float,
    *,
    channels: int = 1,
    scales: int | None = None,
    shift: int = 0,
    size: int = 64,
    interior: int = 15,
    stride: int = 1,
    smoothing: float = 1.5,
    seeds: Sequence[int] = (0, 1, 2),
) -> float:
    """Return the equivariance error of a module, `mean |module(L_a f) - L_a module(f)|^2 / var(L_a module(f))`.

    Args:
        module: maps (1, channels, size, size, size) to (1, K, size, size, size); either may have a scale axis before the last three.
        factor: enlargement a of the content; values below 1 shrink it.
        channels: channels of the input.
        scales: number of scales of the input, or None for an image.
        shift: number of scales by which L_a moves a scale-feature map, where `factor = step ** shift`.
        size: voxels per axis of the input.
        interior: voxels per axis that are compared, around the origin; the margin must be wider than the receptive field.
        stride: total stride of the module; the origin is placed on its coarsest grid.
        smoothing: width in voxels of the Gaussian that smooths the random fields.
        seeds: seeds of the fields; errors and variances are pooled over them.

    Returns:
        0 for an equivariant module, about 1 where the output at one size predicts little of the output at the other, 2 where it predicts
        nothing.

    Raises:
        ValueError: the interior does not fit the grid, or the shift leaves no scale to compare.
    """
    origin = size // 2 // stride * stride
    reach = interior // 2
    if (reach + 1) / min(1.0, factor) >= min(origin, size - 1 - origin):
        raise ValueError(f"an interior of {interior} voxels at factor {factor} does not fit a grid of {size}")
    window = torch.arange(-reach, reach + 1, dtype=torch.float64)
    pick = interpolation_matrix(window + origin, size, 1).float()
    look = interpolation_matrix(window / factor + origin, size, 3).float()
    error = variance = 0.0
    for seed in seeds:
        natural, rescaled = _pair(channels, scales, shift, size, origin, factor, smoothing, seed)
        expected = apply_separable(module(natural), [look] * 3)
        received = apply_separable(module(rescaled), [pick] * 3)
        if expected.ndim == 6 and shift:
            expected, received = _align(expected, received, shift)
        error += float((received - expected).double().square().mean())
        variance += float(expected.double().var())
    return error / variance


def assert_equivariant(module: Callable[[Tensor], Tensor], factor: float, limit: float, **settings: object) -> None:
    """Raise `AssertionError` with the measured error if it exceeds a limit; for tests of your own layers.

    Args:
        module, factor: module and factor, see `equivariance_error`.
        limit: largest equivariance error that passes.
        settings: further arguments of `equivariance_error`, such as `shift` and `scales`.
    """
    error = equivariance_error(module, factor, **settings)  # type: ignore[arg-type]
    if not error <= limit:
        raise AssertionError(f"the equivariance error at factor {factor:.4g} is {error:.3g}, above the limit of {limit:.3g}")


def _pair(
    channels: int, scales: int | None, shift: int, size: int, origin: int, factor: float, smoothing: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Return a random input and its rescaled version."""
    generator = torch.Generator().manual_seed(seed)
    if scales is None:
        waves = PlaneWaves(channels, smoothing, generator)
        return waves.sample(size, origin, 1)[None], waves.sample(size, origin, factor)[None]
    fields = {k: PlaneWaves(channels, smoothing, generator) for k in range(min(0, -shift), scales + max(0, -shift))}
    natural = torch.stack([fields[k].sample(size, origin, 1) for k in range(scales)], 1)
    rescaled = torch.stack([fields[k - shift].sample(size, origin, factor) for k in range(scales)], 1)
    return natural[None], rescaled[None]


def _align(expected: Tensor, received: Tensor, shift: int) -> tuple[Tensor, Tensor]:
    """Return the scales that both maps hold: rescaling moves the content of scale k to scale k + shift."""
    scales = expected.shape[2]
    if abs(shift) >= scales:
        raise ValueError(f"a shift by {shift} leaves none of {scales} scales to compare")
    if shift > 0:
        return expected[:, :, : scales - shift], received[:, :, shift:]
    return expected[:, :, -shift:], received[:, :, : scales + shift]
