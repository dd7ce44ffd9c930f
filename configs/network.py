"""The complete description of a network: enough to build it again anywhere."""

from typing import Literal

from pydantic import Field, model_validator

from configs.files import Value


class ScaleGroup(Value):
    """A truncated, sampled dilation group: scales `smallest_sigma * step**k`, k = 0 .. number - 1, ascending.

    Equivariance is approximate: the group is sampled in steps and cut off at both ends, where it is weakest.

    Attributes:
        smallest_sigma: width of the smallest Gaussian in mm, at the finest level of the network.
        step: ratio of neighbouring scales.
        number: how many scales; 1 is the smooth network without a group.
    """

    smallest_sigma: float = Field(gt=0)
    step: float = Field(default=2 ** (1 / 3), gt=1, le=4)
    number: int = Field(default=1, ge=1, le=16)

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Widths in mm at the finest level, ascending."""
        return tuple(self.smallest_sigma * self.step**k for k in range(self.number))


Axes = tuple[int, int, int]
Family = Literal["plain", "se", "mixed", "pyramid", "wimmer2023", "wimmer2023_baseline"]
Block = Literal["plain", "residual"]
Projection = Literal["mean", "max", "logsumexp", "learned"]
Border = Literal["replicate", "zero", "reflect", "renormalise"]


class NetworkConfig(Value):
    """A U-Net: one skeleton, with the convolution family as the only difference between networks.

    Per-axis values are in the order (Z, Y, X); per-stage values run from the finest to the coarsest stage.

    Attributes:
        family: `plain` (ordinary convolutions), `se` (scale-equivariant), `mixed` (part of the channels blurred), `pyramid` (one network
            at several resolutions), or a published network, described by `se_unet.published.descriptions`.
        block: `plain` stacks of convolutions or `residual` encoder blocks.
        input_channels: channels of the image.
        output_channels: classes, or regions.
        features: channels of each stage (for `se`: per scale).
        strides: of each stage's first convolution; the first is (1, 1, 1), as class scores lie on the image's own grid.
        kernels: kernel size of each stage, 1 or odd; 1 on an axis means in-plane kernels.
        encoder_blocks: convolutions (or residual blocks) of each stage.
        decoder_blocks: convolutions of each decoder stage, from the finest; one fewer than stages.
        spacing: of the input in mm, so that the kernels of `se` have physical widths.
        scale_group: for the families with scales, all but `plain` and `wimmer2023_baseline`.
        projection: how `se` and `pyramid` bring class scores of all scales together.
        border: what `se` convolutions see beyond the image.
        scale_mixing: reach of the pointwise mixing over neighbouring scales, as far as there are any; 0 is none.
        scale_dropout: probability of leaving out a scale in training.
        basis_order: highest order of the `se` basis functions; `tensor` has orders 0..2 on each axis.
        deep_supervision: give class scores at every decoder stage in training.
        checkpointing: keep the inputs of each stage alone for the gradients and compute the rest again: less memory, a third more time.
    """

    family: Family
    block: Block = "plain"
    input_channels: int = Field(ge=1)
    output_channels: int = Field(ge=1)
    features: tuple[int, ...] = Field(min_length=1)
    strides: tuple[Axes, ...]
    kernels: tuple[Axes, ...]
    encoder_blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    scale_group: ScaleGroup | None = None
    projection: Projection = "learned"
    border: Border = "replicate"
    scale_mixing: int = Field(default=0, ge=0, le=4)
    scale_dropout: float = Field(default=0.0, ge=0, lt=1)
    basis_order: Literal[1, 2, 3, "tensor"] = 2
    deep_supervision: bool = True
    checkpointing: bool = False

    @model_validator(mode="after")
    def _stages_agree(self) -> "NetworkConfig":
        stages = len(self.features)
        lengths = {"strides": stages, "kernels": stages, "encoder_blocks": stages, "decoder_blocks": stages - 1}
        for name, expected in lengths.items():
            if len(getattr(self, name)) != expected:
                raise ValueError(f"`{name}` must have {expected} entries for {stages} stages, not {len(getattr(self, name))}")
        for name in ("features", "encoder_blocks", "decoder_blocks"):
            if any(value < 1 for value in getattr(self, name)):
                raise ValueError(f"`{name}` must be positive, not {getattr(self, name)}")
        if any(stride not in (1, 2) for strides in self.strides for stride in strides):
            raise ValueError(f"strides must be 1 or 2, not {self.strides}")
        if self.family in ("plain", "se", "mixed", "pyramid") and self.strides[0] != (1, 1, 1):
            raise ValueError(
                f"the first stage's strides must be (1, 1, 1), not {self.strides[0]}: scores lie on the image's grid"
            )
        if any(size % 2 == 0 or size < 1 for kernel in self.kernels for size in kernel):
            raise ValueError(f"kernel sizes must be odd, not {self.kernels}")
        if any(not size > 0 for size in self.spacing):
            raise ValueError(f"spacing must be positive, not {self.spacing}")
        unscaled = self.family in ("plain", "wimmer2023_baseline")
        if (self.scale_group is None) != unscaled:
            raise ValueError(f"family `{self.family}` goes {'without' if unscaled else 'with'} a scale group")
        return self

    @property
    def total_stride(self) -> Axes:
        """Ratio of the finest to the coarsest grid, per axis. A patch must be divisible by it."""
        totals = [1, 1, 1]
        for strides in self.strides:
            totals = [total * stride for total, stride in zip(totals, strides, strict=True)]
        return totals[0], totals[1], totals[2]
