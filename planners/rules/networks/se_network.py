"""Describe the network `se`: the stages of the baseline with scale-equivariant convolutions, at about the same cost."""

import math
from dataclasses import replace

from configs.dataset import DatasetDescription
from configs.fingerprint import Shape, Spacing
from configs.network import NetworkConfig, ScaleGroup
from planners.decision import Decision
from planners.rules.budget import feature_values
from planners.rules.networks.scale_group import BLUR_COST, FAMILY, KERNEL_REACH, MIXING, RELATIVE_COST
from planners.rules.networks.skeleton import Skeleton, baseline_network
from planners.rules.topology import Topology


def receptive_fields(network: NetworkConfig) -> tuple[float, float]:
    """Return the receptive field of the encoder in voxels along the axis that is halved most, at the smallest and the largest scale.

    A convolution of width sigma (in voxels of its stage) reaches two sigma to either side.

    Raises:
        ValueError: the network has no scales.
    """
    if network.scale_group is None:
        raise ValueError("the network has no scales")
    axis = max(range(3), key=lambda candidate: network.total_stride[candidate])
    reach, stride = 0.0, 1
    for blocks, strides in zip(network.encoder_blocks, network.strides, strict=True):
        stride *= strides[axis]
        reach += blocks * (2 if network.block == "residual" else 1) * stride
    smallest, largest = (
        1 + 2 * KERNEL_REACH * sigma / network.spacing[axis] * reach
        for sigma in (network.scale_group.sigmas[0], network.scale_group.sigmas[-1])
    )
    return smallest, largest


def judge_depth(network: NetworkConfig, patch_size: Shape) -> Decision[bool]:
    """Return whether the network sees the whole patch at its largest scale. The stages are those of the baseline in any case."""
    smallest, largest = receptive_fields(network)
    longest = max(patch_size)
    seen = f"{largest:.0f} voxels"
    if not math.isclose(smallest, largest):
        seen = f"{smallest:.0f} voxels at the smallest and {largest:.0f} at the largest scale"
    sees = largest >= longest
    verdict = "the stages of the baseline are enough" if sees else "the patch is too small for a further stage"
    return Decision(sees, f"The receptive field is {seen}, the longest side of the patch {longest}: {verdict}.")


_MULTIPLE = 4  # the numbers of channels are multiples of this


def se_features(skeleton: Skeleton, topology: Topology, group: ScaleGroup) -> list[int]:
    """Return the channels c of each stage and scale for which a convolution costs as much as the baseline's with C channels.

    With S scales, K kernel voxels and n voxels along each axis with kernels, a convolution takes `K C^2` multiply-adds for each voxel in
    the baseline and `S (K c^2 + sum(n) c)` here. The second term are the blurs, matrix products along each axis, whose multiply-adds
    take less time and count a third. A pyramid has no blurs, and smaller images at larger scales.
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
    """Return the number of values in the feature maps of one sample, over all scales, for the first estimate of memory."""
    features = [group.number * channels for channels in se_features(skeleton, topology, group)]
    return feature_values(_se_skeleton(skeleton), topology, features, outputs)


def features_reason(skeleton: Skeleton, topology: Topology, group: ScaleGroup) -> str:
    """Return the reason for the channels of the stages."""
    features = ", ".join(map(str, se_features(skeleton, topology, group)))
    baseline = ", ".join(map(str, skeleton.features(len(topology.strides))))
    scales = f"at each of {group.number} scales" if group.number > 1 else "at one scale"
    cost = "the" if RELATIVE_COST == 1 else f"{RELATIVE_COST:g} times the"
    blocks = _se_skeleton(skeleton)
    encoder = ", ".join(map(str, blocks.encoder(len(topology.strides))))
    return (
        f"Features {features} {scales}, at {cost} cost of the baseline with {baseline}, blurs included; {encoder} residual blocks in the "
        f"encoder, one convolution in each decoder stage (size {skeleton.size})."
    )


def se_network(
    description: DatasetDescription, spacing: Spacing, topology: Topology, skeleton: Skeleton, group: ScaleGroup
) -> NetworkConfig:
    """Return the description of the network: the baseline's stages with the scale group and its channels."""
    plain = baseline_network(description, spacing, topology, _se_skeleton(skeleton))
    changed = {
        "family": FAMILY,
        "features": tuple(se_features(skeleton, topology, group)),
        "scale_group": group,
        "scale_mixing": min(MIXING, group.number - 1),
    }
    return NetworkConfig.model_validate(plain.model_dump() | changed)


def _se_skeleton(skeleton: Skeleton) -> Skeleton:
    """Return the skeleton with one residual block for two plain convolutions in the encoder, and one convolution for two in the decoder.

    The encoder gains a convolution and the decoder loses one with twice the inputs, so that the multiply-adds stay about the same.
    """
    return skeleton if skeleton.block == "residual" else replace(skeleton, block="residual", first_blocks=(1,), decoder_blocks=1)


def _positive_root(a: float, b: float, c: float) -> float:
    """Return the x > 0 with `a x^2 + b x = c`."""
    return (-b + math.sqrt(b**2 + 4 * a * c)) / (2 * a)
