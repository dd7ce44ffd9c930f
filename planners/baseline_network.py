"""The network `baseline`: nnU-Net's plain convolutional U-Net (Isensee et al. 2021)."""

from collections.abc import Sequence

from configs.dataset import DatasetDescription
from configs.fingerprint import Spacing
from configs.network import NetworkConfig
from planners.topology import Topology

_BASE_FEATURES = 32
_MOST_FEATURES = 320
_CONVOLUTIONS = 2


def baseline_features(stages: int) -> list[int]:
    """Channels of each stage: 32, doubled at each stage, at most 320."""
    return [min(_BASE_FEATURES * 2**stage, _MOST_FEATURES) for stage in range(stages)]


def features_reason(features: Sequence[int]) -> str:
    """Why the stages have these channels."""
    return f"Features {', '.join(map(str, features))}: {_BASE_FEATURES}, doubled at each stage, at most {_MOST_FEATURES}."


def baseline_network(description: DatasetDescription, spacing: Spacing, topology: Topology) -> NetworkConfig:
    """Two convolutions for each stage on both sides."""
    stages = len(topology.strides)
    return NetworkConfig(
        family="plain",
        input_channels=len(description.channels),
        output_channels=description.output_channels,
        features=tuple(baseline_features(stages)),
        strides=topology.strides,
        kernels=topology.kernels,
        encoder_blocks=(_CONVOLUTIONS,) * stages,
        decoder_blocks=(_CONVOLUTIONS,) * (stages - 1),
        spacing=spacing,
    )
