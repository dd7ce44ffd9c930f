"""Whether weights can belong to a plan, judged by numbers alone: before a network is built that a hostile plan made enormous."""

import math
from collections.abc import Mapping

from configs.plan import NetworkPlan

_KERNEL_SHARE = 64  # weights may be fewer than kernel values by this: kernels of `se` are sums of few basis functions
_WIDEST_SIGMA = 100.0  # voxels


def implausible(planned: NetworkPlan, tensors: Mapping[str, tuple[int, ...]]) -> str | None:
    """The first reason why these tensors cannot be the planned network's, or None.

    A network that passes takes memory in proportion to the weights file, so that it can be built to compare tensor by tensor.
    """
    network = planned.network
    numbers = sum(math.prod(shape) for shape in tensors.values())
    blocks = sum(network.encoder_blocks) + sum(network.decoder_blocks)
    if blocks > len(tensors):
        return f"the plan has {blocks} blocks and the file {len(tensors)} tensors"
    channels = (network.input_channels, *network.features)
    kernels = [math.prod(kernel) for kernel in network.kernels]
    values = sum(before * after * kernel for before, after, kernel in zip(channels, channels[1:], kernels, strict=False))
    values += network.output_channels * network.features[0]
    if values > _KERNEL_SHARE * numbers:
        return f"the plan's kernels have {values} values and the file {numbers} numbers"
    group = network.scale_group
    if group is not None and not group.sigmas[-1] / min(network.spacing) <= _WIDEST_SIGMA:
        return f"the widest kernel has a sigma of {group.sigmas[-1] / min(network.spacing):.3g} voxels"
    return None
