"""Convolution families: the layers by which a family convolves, changes the grid and computes class scores.

The U-Net skeleton takes these layers from a family; nothing else in it depends on the family.
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

SLOPE = 0.01  # slope of the leaky rectifier below zero, as in nnU-Net


class Family(Protocol):
    """Maker of a U-Net's layers. Stage 0 is the finest; `inputs` and `outputs` are numbers of channels."""

    def stem(self, outputs: int) -> nn.Module:
        """Return the first convolution of the network, from the image to the features of stage 0."""
        ...

    def convolution(self, inputs: int, outputs: int, stage: int) -> nn.Module:
        """Return a convolution on the grid of a stage."""
        ...

    def strided_convolution(self, inputs: int, outputs: int, stage: int) -> nn.Module:
        """Return a convolution from the grid of the previous stage to that of `stage`."""
        ...

    def shortcut(self, inputs: int, outputs: int, stage: int, strided: bool) -> nn.Module:
        """Return the shortcut of a residual block, which adapts the grid and the number of channels."""
        ...

    def up(self, inputs: int, outputs: int, stage: int) -> nn.Module:
        """Return the upsampling from the grid of `stage` to that of the previous stage."""
        ...

    def head(self, inputs: int) -> nn.Module:
        """Return the layer from features to class scores (B, K, Z, Y, X)."""
        ...


class PlainFamily:
    """Ordinary convolutions, which make the skeleton nnU-Net's PlainConvUNet or ResidualEncoderUNet.

    Isensee et al., "nnU-Net" (2021), and the residual encoder presets of Isensee et al. (2024).
    """

    def __init__(self, config: NetworkConfig):
        self._config = config

    def stem(self, outputs: int) -> nn.Module:
        """Return a convolution (B, C, Z, Y, X) -> (B, outputs, Z, Y, X)."""
        return self.convolution(self._config.input_channels, outputs, 0)

    def convolution(self, inputs: int, outputs: int, stage: int) -> nn.Module:
        """Return a zero-padded convolution."""
        return self._convolution(inputs, outputs, stage, (1, 1, 1))

    def strided_convolution(self, inputs: int, outputs: int, stage: int) -> nn.Module:
        """Return a zero-padded convolution with the stride of the stage."""
        return self._convolution(inputs, outputs, stage, self._config.strides[stage])

    def shortcut(self, inputs: int, outputs: int, stage: int, strided: bool) -> nn.Module:
        """Return average pooling, followed by a 1 x 1 x 1 convolution where the number of channels changes."""
        strides = self._config.strides[stage]
        parts: list[nn.Module] = [nn.AvgPool3d(strides, strides)] if strided and max(strides) > 1 else []
        if inputs != outputs:
            parts += [_initialised(nn.Conv3d(inputs, outputs, 1, bias=False)), InstanceNorm(outputs)]
        return nn.Sequential(*parts)

    def up(self, inputs: int, outputs: int, stage: int) -> nn.Module:
        """Return a transposed convolution whose kernel is as large as its stride."""
        strides = self._config.strides[stage]
        return _initialised(nn.ConvTranspose3d(inputs, outputs, strides, strides))

    def head(self, inputs: int) -> nn.Module:
        """Return a 1 x 1 x 1 convolution."""
        return _initialised(nn.Conv3d(inputs, self._config.output_channels, 1))

    def _convolution(self, inputs: int, outputs: int, stage: int, strides: tuple[int, int, int]) -> nn.Module:
        kernel = self._config.kernels[stage]
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        return _initialised(nn.Conv3d(inputs, outputs, kernel, strides, padding))


class ScaleFamily:
    """Scale-equivariant layers: fitted kernels of physical width, low-pass before downsampling, interpolation in upsampling."""

    def __init__(self, config: NetworkConfig):
        self._config = config

    def stem(self, outputs: int) -> nn.Module:
        """Return a lifting convolution (B, C, Z, Y, X) -> (B, outputs, S, Z, Y, X)."""
        config = self._config
        return LiftingConvolution(
            config.input_channels, outputs, self.sigmas(0), config.kernels[0], order=config.basis_order, border=config.border
        )

    def convolution(self, inputs: int, outputs: int, stage: int) -> nn.Module:
        """Return a group convolution, followed by mixing of neighbouring scales where the network has it."""
        config = self._config
        convolution = GroupConvolution(
            inputs, outputs, self.sigmas(stage), config.kernels[stage], order=config.basis_order, border=config.border
        )
        reach = min(config.scale_mixing, convolution.scales - 1)
        return nn.Sequential(convolution, ScaleMixing(outputs, reach)) if reach else convolution

    def strided_convolution(self, inputs: int, outputs: int, stage: int) -> nn.Module:
        """Return a low-pass with stride, followed by a group convolution."""
        return nn.Sequential(self._down(stage), self.convolution(inputs, outputs, stage))

    def shortcut(self, inputs: int, outputs: int, stage: int, strided: bool) -> nn.Module:
        """Return a low-pass with stride, followed by a pointwise convolution where the number of channels changes."""
        parts: list[nn.Module] = [self._down(stage)] if strided and max(self._config.strides[stage]) > 1 else []
        if inputs != outputs:
            parts += [PointwiseConvolution(inputs, outputs, bias=False), InstanceNorm(outputs)]
        return nn.Sequential(*parts)

    def up(self, inputs: int, outputs: int, stage: int) -> nn.Module:
        """Return a pointwise convolution on the coarse grid, followed by interpolation."""
        return nn.Sequential(PointwiseConvolution(inputs, outputs), InterpolateUp(self._config.strides[stage]))

    def head(self, inputs: int) -> nn.Module:
        """Return the head that scores each scale and projects the scores over the scales."""
        return ScaleHead(inputs, self._config.output_channels, self._config.projection, self._config.scale_dropout)

    def sigmas(self, stage: int) -> tuple[tuple[float, float, float], ...]:
        """Return the kernel widths of a stage in voxels, (Z, Y, X) for each scale.

        In mm, the widths of a stage are the same on all axes. From stage to stage they grow with the coarsest spacing among the axes that
        have kernels, so that kernels are sampled as well as at the finest stage, even where an axis is never halved.
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
    """Layers of a smooth network of one scale whose convolutions see some channels blurred and the others unchanged.

    The scales of the group are the widths of the blurs; maps have one scale.
    """

    def stem(self, outputs: int) -> nn.Module:
        """Return a mixed convolution (B, C, Z, Y, X) -> (B, outputs, 1, Z, Y, X)."""
        return self.convolution(self._config.input_channels, outputs, 0)

    def convolution(self, inputs: int, outputs: int, stage: int) -> nn.Module:
        """Return a mixed convolution."""
        config = self._config
        return MixedConvolution(
            inputs, outputs, self.sigmas(stage), config.kernels[stage], order=config.basis_order, border=config.border
        )

    def head(self, inputs: int) -> nn.Module:
        """Return a head without votes, which one scale does not need."""
        return ScaleHead(inputs, self._config.output_channels, "mean")

    def _down(self, stage: int) -> nn.Module:
        return LowPassDown((WIDEST_LOWPASS,), self._config.strides[stage], self._config.border)


WIDEST_LOWPASS, NARROWEST_LOWPASS = 1.4, 0.8  # voxels of the finer grid; see docs/explanation/scale_equivariance.md


def stage_spacing(config: NetworkConfig, stage: int) -> tuple[float, float, float]:
    """Return the spacing in mm (Z, Y, X) of the grid of a stage."""
    spacing = list(config.spacing)
    for strides in config.strides[: stage + 1]:
        spacing = [size * stride for size, stride in zip(spacing, strides, strict=True)]
    return spacing[0], spacing[1], spacing[2]


def _coarsest(spacing: Sequence[float], kernel: Sequence[int]) -> float:
    """Return the largest spacing among the axes with kernels, or among all axes where none has a kernel."""
    return max((length for length, size in zip(spacing, kernel, strict=True) if size > 1), default=max(spacing))


def _initialised(convolution: nn.Conv3d | nn.ConvTranspose3d) -> nn.Module:
    nn.init.kaiming_normal_(convolution.weight, a=SLOPE)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution
