"""The network `se`: the baseline's stages with scale-equivariant convolutions, at about the baseline's cost."""

import math
from dataclasses import replace

from configs.dataset import DatasetDescription
from configs.fingerprint import Spacing
from configs.network import NetworkConfig
from configs.scales import ScaleGroup
from planners.baseline_network import baseline_network
from planners.budget import feature_values
from planners.se_defaults import BLUR_COST, FAMILY, MIXING, RELATIVE_COST
from planners.skeleton import Skeleton
from planners.topology import Topology

_MULTIPLE = 4  # channels come in multiples of this


def se_features(skeleton: Skeleton, topology: Topology, group: ScaleGroup) -> list[int]:
    """Channels of each stage and scale, so that a convolution costs as much as the baseline's of C channels.

    With S scales, K kernel voxels and n voxels along each axis with kernels, the baseline's takes `K C^2` multiply-adds for each voxel.
    Those of c channels at S scales take `S (K c^2 + sum(n) c)`: blurs are matrix products along each axis, whose multiply-adds count a
    third, as they take less time. A pyramid has no blurs, and smaller images at larger scales.
    """
    features = []
    sizes = list(topology.patch_size)
    planned = zip(skeleton.features(len(topology.strides)), topology.strides, topology.kernels, strict=True)
    for channels, stride, kernel in planned:
        sizes = [size // step for size, step in zip(sizes, stride, strict=True)]
        wanted, voxels = RELATIVE_COST * math.prod(kernel) * channels**2, math.prod(kernel)
        if FAMILY == "pyramid":
            fitting = math.sqrt(wanted / voxels / sum(group.step ** (-3 * k) for k in range(group.number)))
        else:
            blur = sum(size + 2 for size, taps in zip(sizes, kernel, strict=True) if taps > 1)
            fitting = _positive_root(voxels, BLUR_COST * blur, wanted / group.number)
        features.append(max(_MULTIPLE, round(fitting / _MULTIPLE) * _MULTIPLE))
    return features


def se_feature_values(skeleton: Skeleton, topology: Topology, group: ScaleGroup, outputs: int) -> int:
    """Values in the feature maps of one sample, all scales together: by these memory is estimated before it is counted."""
    features = [group.number * channels for channels in se_features(skeleton, topology, group)]
    return feature_values(_se_skeleton(skeleton), topology, features, outputs)


def features_reason(skeleton: Skeleton, topology: Topology, group: ScaleGroup) -> str:
    """Why the stages have these channels."""
    features = ", ".join(map(str, se_features(skeleton, topology, group)))
    baseline = ", ".join(map(str, skeleton.features(len(topology.strides))))
    scales = f"at each of {group.number} scales" if group.number > 1 else "at one scale"
    cost = "the" if RELATIVE_COST == 1 else f"{RELATIVE_COST:g} times the"
    blocks = _se_skeleton(skeleton)
    encoder = ", ".join(map(str, blocks.encoder(len(topology.strides))))
    return (
        f"Features {features} {scales}, for {cost} cost of the baseline's {baseline}, blurs included; {encoder} residual blocks in the "
        f"encoder, one convolution in the decoder (size {skeleton.size})."
    )


def se_network(
    description: DatasetDescription, spacing: Spacing, topology: Topology, skeleton: Skeleton, group: ScaleGroup
) -> NetworkConfig:
    """The baseline's skeleton with the scale group and its channels."""
    plain = baseline_network(description, spacing, topology, _se_skeleton(skeleton))
    changed = {
        "family": FAMILY,
        "features": tuple(se_features(skeleton, topology, group)),
        "scale_group": group,
        "scale_mixing": min(MIXING, group.number - 1),
    }
    return NetworkConfig.model_validate(plain.model_dump() | changed)


def _se_skeleton(skeleton: Skeleton) -> Skeleton:
    """The skeleton with residual paths: for each two plain convolutions of the encoder one residual block, in the decoder one for two.

    A block brings a convolution more, the decoder has one of twice the inputs less: about as many multiply-adds.
    """
    return skeleton if skeleton.block == "residual" else replace(skeleton, block="residual", first_blocks=(1,), decoder_blocks=1)


def _positive_root(a: float, b: float, c: float) -> float:
    """The x > 0 with `a x^2 + b x = c`."""
    return (-b + math.sqrt(b**2 + 4 * a * c)) / (2 * a)
