"""Test-time mirroring: the mean of a network's scores over reflections of its input."""

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn


class Mirrored(nn.Module):
    """Mean over all reflections m along some axes of `m(network(m(x)))`, one reflection at a time.

    As in nnU-Net, the network's outputs (logits) are averaged tile by tile. The result commutes with these reflections, whatever
    the network.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], axes: Sequence[int]):
        """Args: network: function of (B, C, Z, Y, X). axes: axes to mirror, indices into (Z, Y, X); empty for none."""
        super().__init__()
        if len(set(axes)) != len(axes) or any(axis not in (0, 1, 2) for axis in axes):
            raise ValueError(f"mirror axes must be distinct values among 0, 1, 2, not {tuple(axes)}")
        self.network = network
        # Equal modes, so that putting this module into evaluation mode and back does not switch the network.
        self.training = network.training if isinstance(network, nn.Module) else False
        self.reflections = [chosen for count in range(len(axes) + 1) for chosen in combinations(sorted(axes), count)]

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, Z, Y, X) to mean scores (B, K, Z, Y, X)."""
        share = 1 / len(self.reflections)
        total = self.network(x) * share
        for axes in self.reflections[1:]:
            dims = [axis + 2 for axis in axes]
            total.add_(torch.flip(self.network(torch.flip(x, dims)), dims), alpha=share)
        return total
