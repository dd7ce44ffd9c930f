"""The network `se`: the baseline's stages with scale-equivariant convolutions, at about the baseline's multiply-adds.

What is chosen here learned best of what was tried (`docs/learning.md`): with one scale, residual paths; with several, mixing of
neighbouring scales, without which a group hardly learns.
"""

import math

from configs.dataset import DatasetDescription
from configs.fingerprint import Spacing
from configs.network import NetworkConfig
from configs.scales import ScaleGroup
from planners.baseline_network import baseline_network
from planners.skeleton import Skeleton
from planners.topology import Topology

_MULTIPLE = 4  # channels come in multiples of this
_RESIDUAL_COST = 1.25  # a residual encoder has a convolution more on the finest grid, five instead of four of its width
_MIXING = 1  # reach over neighbouring scales


def se_features(skeleton: Skeleton, stages: int, scales: int) -> list[int]:
    """Channels of each stage and scale.

    A convolution costs (scales) x (channels)^2, so the baseline's channels are divided by the square root of the cost.
    """
    cost = _RESIDUAL_COST if _gains_residual_paths(skeleton, scales) else scales
    shrunken = (channels / math.sqrt(cost) for channels in skeleton.features(stages))
    return [max(_MULTIPLE, round(channels / _MULTIPLE) * _MULTIPLE) for channels in shrunken]


def features_reason(skeleton: Skeleton, stages: int, scales: int) -> str:
    """Why the stages have these channels."""
    features = ", ".join(map(str, se_features(skeleton, stages, scales)))
    if _gains_residual_paths(skeleton, scales):
        why = f"the baseline's divided by the square root of {_RESIDUAL_COST}, for equal multiply-adds with residual paths"
        return f"Features {features}: {why}, which learn faster (size {skeleton.size})."
    if scales == 1:
        return f"Features {features}: the baseline's, as there is one scale (size {skeleton.size})."
    why = f"the baseline's divided by the square root of {scales}, for equal multiply-adds"
    return f"Features {features} at each of {scales} scales: {why} (size {skeleton.size})."


def se_network(
    description: DatasetDescription, spacing: Spacing, topology: Topology, skeleton: Skeleton, group: ScaleGroup
) -> NetworkConfig:
    """The baseline's skeleton with the scale group and its channels."""
    plain = baseline_network(description, spacing, topology, skeleton)
    changed: dict[str, object] = {
        "family": "se",
        "features": tuple(se_features(skeleton, len(topology.strides), group.number)),
        "scale_group": group,
        "scale_mixing": min(_MIXING, group.number - 1),
    }
    if _gains_residual_paths(skeleton, group.number):
        changed |= {"block": "residual", "encoder_blocks": (1,) * len(topology.strides)}
    return NetworkConfig.model_validate(plain.model_dump() | changed)


def _gains_residual_paths(skeleton: Skeleton, scales: int) -> bool:
    """Whether each two plain convolutions of the encoder become one residual block."""
    return scales == 1 and skeleton.block == "plain"
