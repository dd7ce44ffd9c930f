"""Mirroring at test time: the mean of a network's scores over all reflections of its input."""

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn


class Mirrored(nn.Module):
    """Mean over all reflections m along some axes of `m(network(m(x)))`, one reflection at a time.

    The mean is taken of the network's own outputs (logits) tile by tile, as nnU-Net does. The result commutes with these
    reflections, whatever the network.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], axes: Sequence[int]):
        """Args: network: takes (B, C, Z, Y, X). axes: among 0, 1, 2 for Z, Y, X; none leaves the network as it is."""
        super().__init__()
        if len(set(axes)) != len(axes) or any(axis not in (0, 1, 2) for axis in axes):
            raise ValueError(f"mirror axes must be different and among 0, 1, 2, not {tuple(axes)}")
        self.network = network
        # so that evaluating this one does not switch the network there and back
        self.training = network.training if isinstance(network, nn.Module) else False
        self.reflections = [chosen for count in range(len(axes) + 1) for chosen in combinations(sorted(axes), count)]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Z, Y, X) -> (B, K, Z, Y, X)."""
        share = 1 / len(self.reflections)
        total = self.network(x) * share
        for axes in self.reflections[1:]:
            dims = [axis + 2 for axis in axes]
            total.add_(torch.flip(self.network(torch.flip(x, dims)), dims), alpha=share)
        return total
