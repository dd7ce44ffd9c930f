"""The complete description of a network, from which `se_unet.build_network` builds it."""

from typing import Literal

from pydantic import Field, model_validator

from configs.files import Value


class ScaleGroup(Value):
    """A truncated, sampled dilation group: scales `smallest_sigma * step**k`, k = 0 .. number - 1, ascending.

    Equivariance is approximate, because the group is sampled in steps and ends at the smallest and the largest scale, where it is weakest.

    Attributes:
        smallest_sigma: width of the smallest Gaussian in mm, at the finest stage of the network.
        step: ratio of neighbouring scales.
        number: number of scales; 1 is the smooth network without a group.
    """

    smallest_sigma: float = Field(gt=0)
    step: float = Field(default=2 ** (1 / 3), gt=1, le=4)
    number: int = Field(default=1, ge=1, le=16)

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Widths in mm at the finest stage, ascending."""
        return tuple(self.smallest_sigma * self.step**k for k in range(self.number))


Axes = tuple[int, int, int]
FamilyName = Literal["plain", "se", "mixed", "pyramid", "wimmer2023", "wimmer2023_baseline"]
Block = Literal["plain", "residual"]
Projection = Literal["mean", "max", "logsumexp", "learned"]
Border = Literal["replicate", "zero", "reflect", "renormalise"]


class NetworkConfig(Value):
    """Description of a U-Net. All networks have the same skeleton and differ only in the family of their convolutions.

    Values for each axis are in the order (Z, Y, X); values for each stage run from the finest to the coarsest stage.

    Attributes:
        family: `plain` (ordinary convolutions), `se` (scale-equivariant), `mixed` (part of the channels blurred), `pyramid` (one network
            at several resolutions), or a published network, described by `se_unet.wimmer2023` or `se_unet.wimmer2023_baseline`.
        block: `plain` stacks of convolutions or `residual` encoder blocks.
        input_channels: channels of the image.
        output_channels: number of classes or regions.
        features: channels of each stage; for `se`, at each scale.
        strides: strides of each stage's first convolution; the first are (1, 1, 1), because class scores are on the image's own grid.
        kernels: kernel sizes of each stage, odd; 1 along an axis means in-plane kernels.
        encoder_blocks: number of convolutions or residual blocks of each stage.
        decoder_blocks: number of convolutions of each decoder stage; all stages but the coarsest have one.
        spacing: spacing of the input in mm, which gives the kernels of `se` physical widths.
        scale_group: scale group of families with scales, which are all but `plain` and `wimmer2023_baseline`.
        projection: combination of the class scores of all scales, for families with scales.
        border: extension of the image beyond its border in `se` convolutions.
        scale_mixing: reach of the pointwise mixing over neighbouring scales; 0 disables mixing.
        scale_dropout: probability of leaving out a scale in training.
        basis_order: highest order of the `se` basis functions; `tensor` has orders 0..2 on each axis.
        deep_supervision: whether training has class scores at every decoder stage.
        checkpointing: whether to keep only the inputs of each stage for the gradients and compute the rest again, which takes less memory
            and a third more time.
    """

    family: FamilyName
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
            raise ValueError(f"family `{self.family}` {'must not have' if unscaled else 'needs'} a scale group")
        return self

    @property
    def total_stride(self) -> Axes:
        """Ratio between the finest and the coarsest grid along each axis. Patches must be divisible by it."""
        totals = [1, 1, 1]
        for strides in self.strides:
            totals = [total * stride for total, stride in zip(totals, strides, strict=True)]
        return totals[0], totals[1], totals[2]
