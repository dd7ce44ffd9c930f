"""Pointwise mixing, voxel by voxel: over channels, and over neighbouring scales."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from se_unet.layers.half_weights import WeightedLayer, Weights, weights_of


class PointwiseConvolution(WeightedLayer):
    """A 1 x 1 x 1 convolution over channels, the same at every scale: (B, C, S, Z, Y, X) -> (B, C', S, Z, Y, X).

    Args:
        in_channels, out_channels: channels at each scale.
        bias: whether to add one bias per channel.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        nn.init.kaiming_normal_(self.weight, a=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the channels of each voxel."""
        weight, bias = weights_of(self)
        return F.linear(x.movedim(1, -1), weight, bias).movedim(-1, 1)

    def weights(self) -> Weights:
        """Return weight and bias."""
        return self.weight, self.bias


class ScaleMixing(WeightedLayer):
    """Add to each channel a weighted sum of the same channel at neighbouring scales.

    `y(k) = x(k) + sum_j w_j x(k + j) / n(k)` for j = -reach .. reach without 0. Neighbours beyond the ends count as zero, and n(k) is the
    share of neighbours that exist. All k share the weights, so that the layer commutes with a shift in scale, except at the ends.

    Args:
        channels: channels of the map.
        reach: number of neighbours on either side.
    """

    def __init__(self, channels: int, reach: int):
        super().__init__()
        self.reach = reach
        self.weight = nn.Parameter(torch.zeros(2 * reach, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Mix a map (B, C, S, Z, Y, X); the result has the same shape."""
        scales = x.shape[2]
        offsets = [j for j in range(-self.reach, self.reach + 1) if j]
        weight, _ = weights_of(self)
        weights = weight.to(x.dtype)  # else a map in half precision would become one in float32
        outputs = []
        for k in range(scales):
            present = [(index, k + j) for index, j in enumerate(offsets) if 0 <= k + j < scales]
            share = len(present) / len(offsets)
            mixed = x[:, :, k]
            for index, neighbour in present:
                mixed = mixed + x[:, :, neighbour] * (weights[index] / share).reshape(1, -1, 1, 1, 1)
            outputs.append(mixed.movedim(1, -1))
        return torch.stack(outputs, 1).movedim(-1, 1)

    def weights(self) -> Weights:
        """Return the weight alone."""
        return self.weight, None
