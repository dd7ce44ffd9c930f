"""The baseline of "Scale Equivariant Deep Learning for 3D Data" (Wimmer et al., 2023): a residual U-Net like MONAI's `UNet`.

Module names are MONAI's, so that `load_state_dict` accepts weights trained with MONAI. Kerfoot et al., "Left-ventricle quantification
using residual U-Net" (2018), describe the architecture.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from se_unet.published.nested_levels import check_levels, nest_level


@dataclass(frozen=True)
class Wimmer2023BaselineSettings:
    """Settings of the baseline network.

    Attributes:
        input_channels: channels of the image.
        output_channels: number of classes or regions.
        channels: channels of each level, the finest first.
        strides: strides between the levels. The size of the input must be divisible by their product.
        kernel_size: kernel size of the convolutions; odd.
        up_kernel_size: kernel size of the transposed convolutions; odd.
        residual_units: convolutions of each residual block on the way down.
        norm: `instance` norm without, or `batch` norm with learned factors and offsets.
        dropout: probability of leaving out a voxel's value.
    """

    input_channels: int
    output_channels: int
    channels: tuple[int, ...] = (16, 32, 64, 128)
    strides: tuple[int, ...] = (2, 2, 2)
    kernel_size: int = 5
    up_kernel_size: int = 3
    residual_units: int = 2
    norm: Literal["batch", "instance"] = "instance"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_levels(self.channels, self.strides)
        if self.kernel_size % 2 == 0 or self.up_kernel_size % 2 == 0 or self.residual_units < 1:
            raise ValueError(f"kernel sizes must be odd, and `residual_units` must be at least 1, not {self}")


class Wimmer2023Baseline(nn.Module):
    """Residual U-Net with strided and transposed convolutions, instance norm and PReLU."""

    def __init__(self, settings: Wimmer2023BaselineSettings):
        super().__init__()
        self.model = nest_level(settings, _ResidualBlock, _Convolution, settings.input_channels, settings.output_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map an image (B, C, Z, Y, X) to scores (B, K, Z, Y, X)."""
        return self.model(x)


class _Convolution(nn.Sequential):
    """Padded convolution, followed by norm, dropout and activation (`adn`) unless `bare`."""

    def __init__(
        self,
        settings: Wimmer2023BaselineSettings,
        inputs: int,
        outputs: int,
        stride: int = 1,
        transposed: bool = False,
        bare: bool = False,
    ):
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        if transposed:
            size = settings.up_kernel_size
            parts["conv"] = nn.ConvTranspose3d(inputs, outputs, size, stride, size // 2, output_padding=stride - 1)
        else:
            size = settings.kernel_size
            parts["conv"] = nn.Conv3d(inputs, outputs, size, stride, size // 2)
        if not bare:
            norm = nn.BatchNorm3d(outputs) if settings.norm == "batch" else nn.InstanceNorm3d(outputs)
            parts["adn"] = nn.Sequential(OrderedDict(N=norm, D=nn.Dropout(settings.dropout), A=nn.PReLU()))
        super().__init__(parts)


class _ResidualBlock(nn.Module):
    """Convolutions plus a residual path, which is a convolution where the size or the channels change."""

    def __init__(
        self,
        settings: Wimmer2023BaselineSettings,
        inputs: int,
        outputs: int,
        stride: int = 1,
        units: int | None = None,
        bare_end: bool = False,
    ):
        super().__init__()
        count = units or settings.residual_units
        self.conv = nn.Sequential()
        for i in range(count):
            bare = bare_end and i == count - 1
            first = i == 0
            unit = _Convolution(settings, inputs if first else outputs, outputs, stride if first else 1, bare=bare)
            self.conv.add_module(f"unit{i}", unit)
        self.residual: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            size = settings.kernel_size if stride != 1 else 1
            self.residual = nn.Conv3d(inputs, outputs, size, stride, size // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.residual(x)
