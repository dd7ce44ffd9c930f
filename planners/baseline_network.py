"""The network `baseline`: nnU-Net's convolutional U-Net (Isensee et al. 2021), or with residual encoders (Isensee et al. 2024)."""

from configs.dataset import DatasetDescription
from configs.fingerprint import Spacing
from configs.network import NetworkConfig
from planners.skeleton import Skeleton
from planners.topology import Topology


def baseline_network(description: DatasetDescription, spacing: Spacing, topology: Topology, skeleton: Skeleton) -> NetworkConfig:
    """Ordinary convolutions in the planned stages."""
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
