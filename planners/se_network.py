"""The network `se`: the baseline's stages with scale-equivariant convolutions, at about the baseline's multiply-adds."""

import math

from configs.dataset import DatasetDescription
from configs.fingerprint import Spacing
from configs.network import NetworkConfig
from configs.scales import ScaleGroup
from planners.baseline_network import baseline_network
from planners.skeleton import Skeleton
from planners.topology import Topology

_MULTIPLE = 4  # channels come in multiples of this


def se_features(skeleton: Skeleton, stages: int, scales: int) -> list[int]:
    """Channels of each stage and scale.

    A convolution costs (scales) x (channels)^2, so the baseline's channels are divided by the square root of the scales.
    """
    shrunken = (channels / math.sqrt(scales) for channels in skeleton.features(stages))
    return [max(_MULTIPLE, round(channels / _MULTIPLE) * _MULTIPLE) for channels in shrunken]


def features_reason(skeleton: Skeleton, stages: int, scales: int) -> str:
    """Why the stages have these channels."""
    features = ", ".join(map(str, se_features(skeleton, stages, scales)))
    if scales == 1:
        return f"Features {features}: the baseline's, as there is one scale (size {skeleton.size})."
    why = f"the baseline's divided by the square root of {scales}, for equal multiply-adds"
    return f"Features {features} at each of {scales} scales: {why} (size {skeleton.size})."


def se_network(
    description: DatasetDescription, spacing: Spacing, topology: Topology, skeleton: Skeleton, group: ScaleGroup
) -> NetworkConfig:
    """The baseline's skeleton with the scale group and its channels."""
    plain = baseline_network(description, spacing, topology, skeleton)
    changed = {
        "family": "se",
        "features": tuple(se_features(skeleton, len(topology.strides), group.number)),
        "scale_group": group,
    }
    return NetworkConfig.model_validate(plain.model_dump() | changed)
