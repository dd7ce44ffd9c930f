"""Down- and upsampling of scale-feature maps: low-pass with stride, and interpolation.

Strided and transposed convolutions leave a pattern of their stride in the features, which breaks scale equivariance. A blur whose width is
proportional to the scale, followed by keeping every second voxel, does not, nor does interpolation.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from configs.network import Border
from se_unet.layers.fused.separable import banded_separable
from se_unet.layers.grids import Band, band_matrix, band_of, kept_matrix

Interpolation = Literal["linear", "cubic"]
# Weights of the samples around the midpoint of two voxels: linear, and the four-point cubic of Keys (1981).
HALFWAY = {"linear": (0.5, 0.5), "cubic": (-1 / 16, 9 / 16, 9 / 16, -1 / 16)}


def lowpass_widths(sigmas: Sequence[float], widest: float, narrowest: float) -> tuple[float, ...]:
    """Return the widths of the low-pass before halving, in voxels of the finer grid: proportional to the scale, at least `narrowest`."""
    return tuple(max(widest * sigma / max(sigmas), narrowest) for sigma in sigmas)


class LowPassDown(nn.Module):
    """Blur each scale of (B, C, S, Z, Y, X) and keep every second voxel along strided axes, from the first.

    Args:
        widths: width in voxels of the Gaussian blur at each scale.
        strides: 1 or 2 for each of (Z, Y, X).
        border: extension of the image beyond its border.
    """

    def __init__(self, widths: Sequence[float], strides: Sequence[int], border: Border = "replicate"):
        super().__init__()
        self.strides, self.border = tuple(strides), border
        radius = max(1, round(4 * max(widths)))
        offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
        taps = torch.exp(-0.5 * (offsets / torch.tensor(widths, dtype=torch.float64)[:, None]) ** 2)
        self.taps: Tensor
        self.register_buffer("taps", (taps / taps.sum(1, keepdim=True)).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Blur and subsample."""
        return _along_strided(x, self.strides, self.taps, self._matrix, band_of(self.taps.shape[1] // 2, self.border, 2))

    def _matrix(self, n: int) -> Tensor:
        matrix = band_matrix(self.taps, n, self.border, stride=2)
        return matrix / matrix.sum(2, keepdim=True) if self.border == "renormalise" else matrix


class InterpolateUp(nn.Module):
    """Double (B, C, S, Z, Y, X) along strided axes by interpolating a value after each voxel; the even voxels are unchanged.

    Args:
        strides: 1 or 2 for each of (Z, Y, X).
        interpolation: `linear` or `cubic`.
    """

    def __init__(self, strides: Sequence[int], interpolation: Interpolation = "linear"):
        super().__init__()
        self.strides = tuple(strides)
        weights = torch.tensor(HALFWAY[interpolation])
        self.weights: Tensor
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Interpolate along the strided axes."""
        # The farthest sample from a new voxel is `len(weights) - 1` voxels of the finer grid away.
        return _along_strided(x, self.strides, self.weights, self._matrix, Band(1, 2, 0, len(self.weights) - 1))

    def _matrix(self, n: int) -> Tensor:
        """Return (1, 2 n, n), with a replicated border."""
        reach = len(self.weights) // 2
        first = torch.arange(n, device=self.weights.device)
        positions = (first[:, None] + torch.arange(1 - reach, reach + 1, device=self.weights.device)).clamp(0, n - 1)
        halfway = torch.zeros(n, n, dtype=self.weights.dtype, device=self.weights.device)
        halfway = halfway.scatter_add(1, positions, self.weights.expand(n, -1))
        return torch.stack([torch.eye(n, dtype=self.weights.dtype, device=self.weights.device), halfway], 1).reshape(1, 2 * n, n)


def _along_strided(x: Tensor, strides: Sequence[int], taps: Tensor, build: Callable[[int], Tensor], band: Band) -> Tensor:
    """Apply to each strided axis of (B, C, S, Z, Y, X) the matrix (S or 1, outputs, n) that `build(n)` makes of the layer's taps.

    The matrices have values in the band.
    """

    def matrix(n: int) -> Tensor:
        return kept_matrix(taps, (n, x.dtype), lambda: build(n).to(x.dtype))

    matrices = [matrix(n) if stride == 2 else None for n, stride in zip(x.shape[3:], strides, strict=True)]
    return banded_separable(x, (matrices[0], matrices[1], matrices[2]), [band] * 3)
