"""Sizes of networks: blocks and channels of each stage, and the reference for their memory.

`medium` is nnU-Net's plain U-Net (Isensee et al. 2021), `large` its residual encoder preset L (Isensee et al. 2024, "nnU-Net Revisited").
`small` is the plain U-Net with half the channels, for GPUs of 4 GB and for first results: at the same patch it takes a quarter of the
multiply-adds and half the memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from configs.dataset import DatasetDescription
from configs.fingerprint import Spacing
from configs.network import Block, NetworkConfig
from planners.rules.topology import Topology

Size = Literal["small", "medium", "large"]
SIZES: tuple[Size, ...] = ("small", "medium", "large")


@dataclass(frozen=True)
class Reference:
    """The network that fills a GPU, the scale for the memory of others."""

    values: int  # number of values in the feature maps of one sample
    batch: int  # number of samples in a training step
    memory: float  # memory in GB that such a step fills; also the default for planning


@dataclass(frozen=True)
class Skeleton:
    """Blocks, channels and memory reference of a network with any number of stages."""

    size: Size  # name of the size
    block: Block  # kind of the encoder blocks
    base_features: int  # channels of the first stage, doubled at each further stage
    most_features: int  # largest number of channels
    first_blocks: tuple[int, ...]  # blocks of the first encoder stages; further stages have as many as the last of these
    decoder_blocks: int  # convolutions of each decoder stage
    reference: Reference  # network of this size that fills a GPU

    def features(self, stages: int) -> list[int]:
        """Return the channels of each stage."""
        return [min(self.base_features * 2**stage, self.most_features) for stage in range(stages)]

    def encoder(self, stages: int) -> list[int]:
        """Return the number of blocks of each encoder stage."""
        return [self.first_blocks[min(stage, len(self.first_blocks) - 1)] for stage in range(stages)]

    def features_reason(self, features: Sequence[int]) -> str:
        """Return the reason for the channels and blocks of the stages."""
        blocks = "two convolutions in each stage"
        if self.block == "residual":
            numbers = ", ".join(map(str, self.encoder(len(features))))
            blocks = f"{numbers} residual blocks in the encoder, one convolution in each decoder stage"
        rule = f"{self.base_features}, doubled at each stage, at most {self.most_features}"
        return f"Features {', '.join(map(str, features))}: {rule}; {blocks} (size {self.size})."


def choose_skeleton(size: Size, slices: bool) -> Skeleton:
    """Return the skeleton of a size for volumes or for slices, which have fewer voxels and allow wider networks and larger batches."""
    return (_FOR_SLICES if slices else _FOR_VOLUMES)[size]


_FOR_VOLUMES: dict[Size, Skeleton] = {
    "small": Skeleton("small", "plain", 16, 160, (2,), 2, Reference(280_000_000, 2, 4.0)),
    "medium": Skeleton("medium", "plain", 32, 320, (2,), 2, Reference(560_000_000, 2, 8.0)),
    "large": Skeleton("large", "residual", 32, 320, (1, 3, 4, 6), 1, Reference(2_100_000_000, 2, 24.0)),
}
_FOR_SLICES: dict[Size, Skeleton] = {
    "small": Skeleton("small", "plain", 16, 256, (2,), 2, Reference(42_500_000, 12, 4.0)),
    "medium": Skeleton("medium", "plain", 32, 512, (2,), 2, Reference(85_000_000, 12, 8.0)),
    "large": Skeleton("large", "residual", 32, 512, (1, 3, 4, 6), 1, Reference(380_000_000, 12, 24.0)),
}


def baseline_network(description: DatasetDescription, spacing: Spacing, topology: Topology, skeleton: Skeleton) -> NetworkConfig:
    """Return the description of the baseline: ordinary convolutions in the planned stages."""
    stages = len(topology.strides)
    return NetworkConfig(
        family="plain",
        block=skeleton.block,
        input_channels=len(description.channels),
        output_channels=description.output_channels,
        features=tuple(skeleton.features(stages)),
        strides=topology.strides,
        kernels=topology.kernels,
        encoder_blocks=tuple(skeleton.encoder(stages)),
        decoder_blocks=(skeleton.decoder_blocks,) * (stages - 1),
        spacing=spacing,
    )
