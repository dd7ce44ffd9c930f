"""The parts in which networks differ: how each convolution family convolves, changes the grid and gives class scores.

A U-Net's skeleton asks a family for its parts; nothing else in it depends on the family.
"""

from collections.abc import Sequence
from typing import Protocol

from torch import nn

from configs.network import NetworkConfig
from se_unet.layers.convolution import GroupConvolution, LiftingConvolution
from se_unet.layers.head import ScaleHead
from se_unet.layers.instance_norm import InstanceNorm
from se_unet.layers.mixed import MixedConvolution
from se_unet.layers.pointwise import PointwiseConvolution, ScaleMixing
from se_unet.layers.sampling import InterpolateUp, LowPassDown, lowpass_widths

SLOPE = 0.01  # of the leaky rectifier, as in nnU-Net


class Family(Protocol):
    """Parts of a U-Net at a stage; stage 0 is the finest."""

    def stem(self, outputs: int) -> nn.Module:
        """First convolution of the network, from the image to the features of stage 0."""
        ...

    def convolution(self, inputs: int, outputs: int, stage: int) -> nn.Module:
        """Convolution on the grid of a stage."""
        ...

    def strided_convolution(self, inputs: int, outputs: int, stage: int) -> nn.Module:
        """Convolution from the grid of the previous stage to that of `stage`."""
        ...

    def shortcut(self, inputs: int, outputs: int, stage: int, strided: bool) -> nn.Module:
        """Residual path beside a block: the grid and the number of channels change, the features do not."""
        ...

    def up(self, inputs: int, outputs: int, stage: int) -> nn.Module:
        """From the grid of `stage` to that of the previous stage."""
        ...

    def head(self, inputs: int) -> nn.Module:
        """Features to class scores (B, K, Z, Y, X)."""
        ...


class PlainFamily:
    """Ordinary convolutions: with these the skeleton is nnU-Net's PlainConvUNet or ResidualEncoderUNet.

    Isensee et al., "nnU-Net" (2021), and its residual encoder presets (2024).
    """

    def __init__(self, config: NetworkConfig):
        self._config = config

    def stem(self, outputs: int) -> nn.Module:
        """(B, C, Z, Y, X) -> (B, outputs, Z, Y, X)."""
        return self.convolution(self._config.input_channels, outputs, 0)

    def convolution(self, inputs: int, outputs: int, stage: int) -> nn.Module:
        """Zero-padded convolution."""
        return self._convolution(inputs, outputs, stage, (1, 1, 1))

    def strided_convolution(self, inputs: int, outputs: int, stage: int) -> nn.Module:
        """Zero-padded convolution with the stage's stride."""
        return self._convolution(inputs, outputs, stage, self._config.strides[stage])

    def shortcut(self, inputs: int, outputs: int, stage: int, strided: bool) -> nn.Module:
        """Average pooling, then a convolution of one voxel where the number of channels changes."""
        strides = self._config.strides[stage]
        parts: list[nn.Module] = [nn.AvgPool3d(strides, strides)] if strided and max(strides) > 1 else []
        if inputs != outputs:
            parts += [_initialised(nn.Conv3d(inputs, outputs, 1, bias=False)), InstanceNorm(outputs)]
        return nn.Sequential(*parts)

    def up(self, inputs: int, outputs: int, stage: int) -> nn.Module:
        """Transposed convolution with kernel and stride alike."""
        strides = self._config.strides[stage]
        return _initialised(nn.ConvTranspose3d(inputs, outputs, strides, strides))

    def head(self, inputs: int) -> nn.Module:
        """Convolution of one voxel."""
        return _initialised(nn.Conv3d(inputs, self._config.output_channels, 1))

    def _convolution(self, inputs: int, outputs: int, stage: int, strides: tuple[int, int, int]) -> nn.Module:
        kernel = self._config.kernels[stage]
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        return _initialised(nn.Conv3d(inputs, outputs, kernel, strides, padding))


class ScaleFamily:
    """Scale-equivariant parts: fitted kernels of physical width, low-pass before halving, interpolation when doubling."""

    def __init__(self, config: NetworkConfig):
        self._config = config

    def stem(self, outputs: int) -> nn.Module:
        """(B, C, Z, Y, X) -> (B, outputs, S, Z, Y, X)."""
        config = self._config
        return LiftingConvolution(
            config.input_channels, outputs, self.sigmas(0), config.kernels[0], order=config.basis_order, border=config.border
        )

    def convolution(self, inputs: int, outputs: int, stage: int) -> nn.Module:
        """Group convolution, then mixing of neighbouring scales where the network has it."""
        config = self._config
        convolution = GroupConvolution(
            inputs, outputs, self.sigmas(stage), config.kernels[stage], order=config.basis_order, border=config.border
        )
        reach = min(config.scale_mixing, convolution.scales - 1)
        return nn.Sequential(convolution, ScaleMixing(outputs, reach)) if reach else convolution

    def strided_convolution(self, inputs: int, outputs: int, stage: int) -> nn.Module:
        """Low-pass, every second voxel, group convolution."""
        return nn.Sequential(self._down(stage), self.convolution(inputs, outputs, stage))

    def shortcut(self, inputs: int, outputs: int, stage: int, strided: bool) -> nn.Module:
        """Low-pass with stride, then a pointwise convolution where the number of channels changes."""
        parts: list[nn.Module] = [self._down(stage)] if strided and max(self._config.strides[stage]) > 1 else []
        if inputs != outputs:
            parts += [PointwiseConvolution(inputs, outputs, bias=False), InstanceNorm(outputs)]
        return nn.Sequential(*parts)

    def up(self, inputs: int, outputs: int, stage: int) -> nn.Module:
        """Pointwise convolution on the coarse grid, then interpolation."""
        return nn.Sequential(PointwiseConvolution(inputs, outputs), InterpolateUp(self._config.strides[stage]))

    def head(self, inputs: int) -> nn.Module:
        """Class scores of each scale, projected over the scales."""
        return ScaleHead(inputs, self._config.output_channels, self._config.projection, self._config.scale_dropout)

    def sigmas(self, stage: int) -> tuple[tuple[float, float, float], ...]:
        """Width in voxels per scale and axis: constant in mm within a stage, growing with the coarsest spacing of axes that have kernels.

        So kernels are as well sampled at every stage as at the finest, also where an axis is never halved.
        """
        config = self._config
        spacing = stage_spacing(config, stage)
        growth = _coarsest(spacing, config.kernels[stage]) / _coarsest(stage_spacing(config, 0), config.kernels[0])
        widths = config.scale_group.sigmas if config.scale_group else ()
        return tuple((width * growth / spacing[0], width * growth / spacing[1], width * growth / spacing[2]) for width in widths)

    def _down(self, stage: int) -> nn.Module:
        config = self._config
        widths = lowpass_widths(config.scale_group.sigmas if config.scale_group else (1.0,), WIDEST_LOWPASS, NARROWEST_LOWPASS)
        return LowPassDown(widths, config.strides[stage], config.border)


class MixedFamily(ScaleFamily):
    """The parts of a smooth network of one scale, with convolutions that see some channels blurred and the others as they are.

    The scales of the group are the widths of the blurs; maps have one scale.
    """

    def stem(self, outputs: int) -> nn.Module:
        """(B, C, Z, Y, X) -> (B, outputs, 1, Z, Y, X)."""
        return self.convolution(self._config.input_channels, outputs, 0)

    def convolution(self, inputs: int, outputs: int, stage: int) -> nn.Module:
        """Mixed convolution."""
        config = self._config
        return MixedConvolution(
            inputs, outputs, self.sigmas(stage), config.kernels[stage], order=config.basis_order, border=config.border
        )

    def head(self, inputs: int) -> nn.Module:
        """Class scores; one scale needs no votes."""
        return ScaleHead(inputs, self._config.output_channels, "mean")

    def _down(self, stage: int) -> nn.Module:
        return LowPassDown((WIDEST_LOWPASS,), self._config.strides[stage], self._config.border)


WIDEST_LOWPASS, NARROWEST_LOWPASS = 1.4, 0.8  # voxels of the finer grid; see docs/explanation/scale_equivariance.md


def stage_spacing(config: NetworkConfig, stage: int) -> tuple[float, float, float]:
    """Spacing in mm of the grid of a stage."""
    spacing = list(config.spacing)
    for strides in config.strides[: stage + 1]:
        spacing = [size * stride for size, stride in zip(spacing, strides, strict=True)]
    return spacing[0], spacing[1], spacing[2]


def _coarsest(spacing: Sequence[float], kernel: Sequence[int]) -> float:
    """The largest spacing of axes with kernels; of all where there are none."""
    return max((length for length, size in zip(spacing, kernel, strict=True) if size > 1), default=max(spacing))


def _initialised(convolution: nn.Conv3d | nn.ConvTranspose3d) -> nn.Module:
    nn.init.kaiming_normal_(convolution.weight, a=SLOPE)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution
