"""The scale-equivariant U-Net of "Scale Equivariant Deep Learning for 3D Data" (Wimmer et al., 2023, arXiv 2304.05864).

The network is numerically equal to the published implementation and has the same module names, so that its results can be reproduced and
its weights loaded. It accepts only input sizes that fit its unpadded strided convolutions, and its transposed convolutions leave a grid
pattern; prefer the family `se` of `se_unet.build_network` for new work. One fault is corrected: the pointwise residual paths add their
bias, which the published code holds but never adds (`load_reference_state` sets it to zero).
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from configs.errors import Fault, InputError, raise_faults
from se_unet.layers.head import project
from se_unet.published.dropout import ScaleEquivariantDropout
from se_unet.published.nested_levels import check_levels, nest_level
from se_unet.published.norm import ScaleBatchNorm, ScaleInstanceNorm
from se_unet.published.reference_layers import ReferenceGroupConvolution, ReferenceLifting, ReferencePointwise
from se_unet.published.sampled_basis import SampledBasis
from se_unet.weights import load_restricted

Activation = Literal["silu", "relu", "leaky_relu"]
ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "silu": nn.SiLU,
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
}


@dataclass(frozen=True)
class Wimmer2023Settings:
    """Settings of the published network; the defaults are those of the BraTS experiment.

    Attributes:
        input_channels: channels of the image.
        output_channels: number of classes or regions.
        channels: channels of each level, the finest first.
        strides: strides between the levels.
        basis: sampled kernels; their scales are in voxels of each level.
        scale_size: number of scales that interact in group convolutions.
        residual_units: convolutions of each residual block on the way down.
        activation: activation after each norm.
        norm: norm over batch, scale and space (`batch`) or over scale and space (`instance`), without running statistics as published.
        dropout: probability of leaving out a channel.
        projection: combination of the scales at the end of the network.
        bias: whether convolutions have a bias.
    """

    input_channels: int
    output_channels: int
    channels: tuple[int, ...] = (4, 8, 16, 32)
    strides: tuple[int, ...] = (2, 2, 2)
    basis: SampledBasis = field(default_factory=SampledBasis)
    scale_size: int = 1
    residual_units: int = 2
    activation: Activation = "silu"
    norm: Literal["batch", "instance"] = "batch"
    dropout: float = 0.07
    projection: Literal["mean", "max"] = "mean"
    bias: bool = True

    def __post_init__(self) -> None:
        check_levels(self.channels, self.strides)
        if self.residual_units < 1:
            raise ValueError(f"`residual_units` must be at least 1, not {self.residual_units}")


class Wimmer2023(nn.Sequential):
    """The published network.

    A convolution with stride t, kernels of K voxels and no padding maps a size n to (n - K) / t + 1, which must be a whole number at every
    level. For the defaults, 29, 37, 45, 53, 61, ... fit.
    """

    def __init__(self, settings: Wimmer2023Settings):
        down, skip, up = nest_level(
            settings, _ResidualBlock, _Convolution, settings.input_channels, settings.output_channels, lifting=True
        )
        super().__init__(down, skip, nn.Sequential(up, _Projection(settings.projection)))
        self.settings = settings

    def forward(self, input: Tensor) -> Tensor:
        """Map an image (B, C, Z, Y, X) to scores (B, K, Z, Y, X) of the same size.

        Raises:
            ValueError: a size does not fit the strided convolutions of every level.
        """
        for size in input.shape[2:]:
            if not self.fits(size):
                raise ValueError(
                    f"size {size} does not fit the strides of every level; the next size that fits is {self.fitting(size)}"
                )
        return super().forward(input)

    def fits(self, size: int) -> bool:
        """Return whether a volume may have this size along an axis."""
        for stride in self.settings.strides:
            if stride > 1:
                if size < self.settings.basis.size or (size - self.settings.basis.size) % stride:
                    return False
                size = (size - self.settings.basis.size) // stride + 1
        return True

    def fitting(self, size: int) -> int:
        """Return the smallest fitting size that is at least `size`."""
        while not self.fits(size):
            size += 1
        return size


def load_reference_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load published weights; names may have a common prefix (`model.`), and sampled bases are ignored.

    Raises:
        InputError: tensors are missing, unexpected or of another shape; all of them are listed.
    """
    expected = network.state_dict()
    prefix = _common_prefix(list(expected), list(state))
    given = {name.removeprefix(prefix): value for name, value in state.items() if not name.endswith("basis")}
    remedy = "Build the network with the settings that the weights were trained with"
    faults = [Fault(f"tensor `{name}`", "the file does not have this tensor", remedy) for name in expected if name not in given]
    faults += [
        Fault(f"tensor `{name}`", "the network does not have this tensor", remedy) for name in given if name not in expected
    ]
    faults += [
        Fault(f"tensor `{name}`", f"the shape is {tuple(given[name].shape)}, but the network needs {tuple(value.shape)}", remedy)
        for name, value in expected.items()
        if name in given and given[name].shape != value.shape
    ]
    raise_faults(faults)
    network.load_state_dict(given)
    for module in network.modules():
        if isinstance(module, ReferencePointwise) and module.bias is not None:
            nn.init.zeros_(module.bias)  # the published code stores this bias, but never adds it


def load_reference_checkpoint(network: nn.Module, path: Path) -> None:
    """Load weights from a file with a state dict, or from a training checkpoint with the key `state_dict`.

    Raises:
        InputError: the file cannot be read without running code from it, or its tensors do not fit the network.
    """
    content = load_restricted(path, "Save only the state dict, as tensors, and give that file", before_1_6=True)
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(Fault(str(path), "the file has no state dict", "Give a file of named tensors"))
    load_reference_state(network, state)


def _common_prefix(expected: list[str], given: list[str]) -> str:
    """Return the prefix that the names in `given` have in addition to those in `expected`."""
    for name in given:
        if name.endswith(expected[0]):
            return name.removesuffix(expected[0])
    return ""


class _Convolution(nn.Sequential):
    """Convolution, followed by norm, dropout and activation unless `bare`. With stride 1, padding keeps the size."""

    def __init__(
        self,
        settings: Wimmer2023Settings,
        inputs: int,
        outputs: int,
        stride: int = 1,
        lifting: bool = False,
        transposed: bool = False,
        bare: bool = False,
    ):
        padding = settings.basis.size // 2 if stride == 1 else 0
        shared: dict[str, Any] = {"stride": stride, "padding": padding, "bias": settings.bias, "transposed": transposed}
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        if lifting:
            parts["conv_z_h"] = ReferenceLifting(inputs, outputs, settings.basis, **shared)
        else:
            size = settings.scale_size
            parts["conv_h_h"] = ReferenceGroupConvolution(inputs, outputs, settings.basis, scale_size=size, **shared)
        if not bare:
            if settings.norm == "batch":
                parts["batch_norm"] = ScaleBatchNorm(outputs, track_running_stats=False)
            else:
                parts["instance_norm"] = ScaleInstanceNorm(outputs)
            parts["dropout"] = ScaleEquivariantDropout(settings.dropout)
            parts["activation"] = ACTIVATIONS[settings.activation]()
        super().__init__(parts)


class _ResidualBlock(nn.Module):
    """Convolutions plus a residual path, which is pointwise where only the channels change, otherwise strided or lifting."""

    def __init__(
        self,
        settings: Wimmer2023Settings,
        inputs: int,
        outputs: int,
        stride: int = 1,
        lifting: bool = False,
        units: int | None = None,
        bare_end: bool = False,
    ):
        super().__init__()
        count = units or settings.residual_units
        self.conv = nn.Sequential()
        for i in range(count):
            first, bare = (stride, lifting) if i == 0 else (1, False), bare_end and i == count - 1
            unit = _Convolution(settings, inputs if i == 0 else outputs, outputs, *first, bare=bare)
            self.conv.add_module(f"unit{i}", unit)
        self.residual: nn.Module = nn.Identity()
        if stride != 1 or lifting:
            self.residual = _Convolution(settings, inputs, outputs, stride, lifting=lifting, bare=True)
        elif inputs != outputs:
            self.residual = ReferencePointwise(inputs, outputs, bias=settings.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.residual(x)


class _Projection(nn.Module):
    def __init__(self, kind: Literal["mean", "max"]):
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        return project(x, self.kind)
