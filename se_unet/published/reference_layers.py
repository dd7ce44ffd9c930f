"""Lifting and group convolution on a sampled basis, as in "Scale Equivariant Deep Learning for 3D Data" (Wimmer et al., 2023).

Each is one call of a PyTorch convolution. The lifting convolution has a filter for each output channel and scale; the group convolution
treats the scales as groups of a grouped convolution. Weights have the published shapes.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from se_unet.published.norm import fold_scales, unfold_scales
from se_unet.published.sampled_basis import SampledBasis, normalise_by_first_scale


class _ReferenceConvolution(nn.Module):
    """Base of both convolutions: weights in basis coordinates, the basis, stride, padding and direction."""

    basis: Tensor

    def __init__(
        self,
        weight_shape: tuple[int, ...],
        basis: SampledBasis,
        stride: int,
        padding: int,
        bias: bool,
        transposed: bool,
    ):
        super().__init__()
        self.out_channels, self.stride, self.padding, self.transposed = weight_shape[0], stride, padding, transposed
        self.size, self.scales = basis.size, len(basis.scales)
        self.weight = nn.Parameter(torch.empty(weight_shape))
        self.bias = nn.Parameter(torch.empty(self.out_channels)) if bias else None
        self.register_buffer("basis", normalise_by_first_scale(basis.sample()).flatten(2).float(), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights and biases in basis coordinates, by PyTorch's rule for an ordinary convolution."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
            nn.init.uniform_(self.bias, -bound, bound)

    def _grid(self) -> tuple[int, int, int]:
        return self.size, self.size, self.size

    def extra_repr(self) -> str:
        """Return the settings, for printing."""
        shape = tuple(self.weight.shape)
        return f"weight={shape}, size={self.size}, stride={self.stride}, padding={self.padding}, transposed={self.transposed}"


class ReferenceLifting(_ReferenceConvolution):
    """Lift an image to all scales. The weights (C', C, functions) times the basis give a filter for each output channel and scale.

    Args:
        in_channels: input channels C.
        out_channels: output channels C'.
        basis: basis of the kernels.
        stride, padding: stride and padding in voxels, the same on every axis.
        bias: whether to add a learned offset for each channel, shared by all scales.
        transposed: whether the convolution is transposed.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        basis: SampledBasis,
        *,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        transposed: bool = False,
    ):
        super().__init__((out_channels, in_channels, basis.functions), basis, stride, padding, bias, transposed)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, Z, Y, X) to (B, C', S, Z', Y', X')."""
        kernel = torch.einsum("ocf,fsn->oscn", self.weight, self.basis).unflatten(3, self._grid()).flatten(0, 1)
        bias = None if self.bias is None else self.bias.repeat_interleave(self.scales)
        if self.transposed:
            y = functional.conv_transpose3d(x, kernel.transpose(0, 1), bias, self.stride, self.padding)
        else:
            y = functional.conv3d(x, kernel, bias, self.stride, self.padding)
        return y.unflatten(1, (self.out_channels, self.scales))


class ReferenceGroupConvolution(_ReferenceConvolution):
    """Convolve a scale-feature map: output scale k sees input scales k .. k + scale_size - 1 through kernels of scale k.

    The last scale is repeated beyond the end, as in the published networks, which breaks the equivariance at that end; prefer
    `se_unet.ScaleMixing` in new networks. The weights are (C', C, scale_size, functions).

    Args:
        in_channels: input channels C.
        out_channels: output channels C'.
        basis: basis of the kernels; its scales are those of the map.
        scale_size: number of input scales that each output scale sees.
        stride, padding: stride and padding in voxels, the same on every axis.
        bias: whether to add a learned offset for each channel, shared by all scales.
        transposed: whether the convolution is transposed.
    """

    seen: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        basis: SampledBasis,
        *,
        scale_size: int = 1,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        transposed: bool = False,
    ):
        super().__init__((out_channels, in_channels, scale_size, basis.functions), basis, stride, padding, bias, transposed)
        first = torch.arange(self.scales)[:, None]
        seen = (first + torch.arange(scale_size)).clamp(max=self.scales - 1).flatten()
        self.register_buffer("seen", seen, persistent=False)
        self.scale_size = scale_size

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, S, Z, Y, X) to (B, C', S, Z', Y', X')."""
        if x.dim() != 6 or x.shape[2] != self.scales:
            raise ValueError(f"the input must be (B, C, S, Z, Y, X) with {self.scales} scales, but its shape is {tuple(x.shape)}")
        grouped = self._scale_major(x)
        kernel = torch.einsum("ocjf,fsn->socjn", self.weight, self.basis).unflatten(4, self._grid())
        bias = None if self.bias is None else self.bias.repeat(self.scales)
        if self.transposed:
            kernel = kernel.permute(0, 2, 3, 1, 4, 5, 6).flatten(0, 2)
            y = functional.conv_transpose3d(grouped, kernel, bias, self.stride, self.padding, groups=self.scales)
        else:
            y = functional.conv3d(
                grouped, kernel.flatten(2, 3).flatten(0, 1), bias, self.stride, self.padding, groups=self.scales
            )
        return y.unflatten(1, (self.scales, self.out_channels)).transpose(1, 2)

    def _scale_major(self, x: Tensor) -> Tensor:
        """Map (B, C, S, Z, Y, X) to (B, S * C * scale_size, Z, Y, X), the channels that each output scale sees side by side."""
        if self.scale_size == 1:
            return x.transpose(1, 2).flatten(1, 2)
        seen = x.index_select(2, self.seen).unflatten(2, (self.scales, self.scale_size))
        return seen.transpose(1, 2).flatten(1, 3)


class ReferencePointwise(nn.Conv3d):
    """1 x 1 x 1 convolution over channels at each scale. It adds its bias; the published code has one but never adds it.

    Args:
        in_channels: input channels C.
        out_channels: output channels C'.
        bias: whether to add a learned offset for each channel, shared by all scales.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True):
        super().__init__(in_channels, out_channels, kernel_size=1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, C, S, Z, Y, X) to (B, C', S, Z, Y, X)."""
        return unfold_scales(super().forward(fold_scales(input)), input.shape[2])
