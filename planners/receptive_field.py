"""How far `se` sees: the depth that a patch needs, at the largest scale."""

import math

from configs.fingerprint import Shape
from configs.network import NetworkConfig
from planners.decision import Decision
from planners.se_defaults import KERNEL_REACH


def receptive_fields(network: NetworkConfig) -> tuple[float, float]:
    """Voxels that the encoder sees along the axis that is halved most, at the smallest and at the largest scale.

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
    """Whether the network sees the whole patch at its largest scale: the stages of the baseline are kept either way."""
    smallest, largest = receptive_fields(network)
    longest = max(patch_size)
    seen = f"{largest:.0f} voxels" if math.isclose(smallest, largest) else f"{smallest:.0f} to {largest:.0f} voxels"
    sees = largest >= longest
    verdict = "the baseline's stages are enough" if sees else "no further stage fits the patch"
    return Decision(sees, f"Receptive field {seen}, smallest to largest scale, against {longest} of the patch: {verdict}.")
