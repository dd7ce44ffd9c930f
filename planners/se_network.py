"""The network `se`: the baseline's stages with scale-equivariant convolutions, at about the baseline's multiply-adds."""

import math

from configs.dataset import DatasetDescription
from configs.fingerprint import Spacing
from configs.network import NetworkConfig
from configs.scales import ScaleGroup
from planners.baseline_network import baseline_features, baseline_network
from planners.topology import Topology

_MULTIPLE = 4  # channels come in multiples of this


def se_features(stages: int, scales: int) -> list[int]:
    """Channels of each stage and scale.

    A convolution costs (scales) x (channels)^2, so the baseline's channels are divided by the square root of the scales.
    """
    shrunken = (channels / math.sqrt(scales) for channels in baseline_features(stages))
    return [max(_MULTIPLE, round(channels / _MULTIPLE) * _MULTIPLE) for channels in shrunken]


def se_feature_maps(stages: int, scales: int) -> list[int]:
    """Feature maps of each stage, all scales together: what memory is counted by."""
    return [scales * channels for channels in se_features(stages, scales)]


def features_reason(stages: int, scales: int) -> str:
    """Why the stages have these channels."""
    features = ", ".join(map(str, se_features(stages, scales)))
    if scales == 1:
        return f"Features {features}: the baseline's, as there is one scale."
    why = f"the baseline's divided by the square root of {scales}, for equal multiply-adds"
    return f"Features {features} at each of {scales} scales: {why}."


def se_network(description: DatasetDescription, spacing: Spacing, topology: Topology, group: ScaleGroup) -> NetworkConfig:
    """The baseline's skeleton with the scale group and its channels."""
    skeleton = baseline_network(description, spacing, topology)
    changed = {
        "family": "se",
        "features": tuple(se_features(len(topology.strides), group.number)),
        "scale_group": group,
    }
    return NetworkConfig.model_validate(skeleton.model_dump() | changed)
