"""Pointwise mixing, voxel by voxel: over channels, and over neighbouring scales."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from se_unet.layers.fused.mixing import scale_product, suits
from se_unet.layers.half_weights import WeightedLayer, Weights, weights_of
from se_unet.separable import full_precision


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
        self._constants: tuple[Tensor, Tensor] | None = None  # of the matrix for some number of scales

    def forward(self, x: Tensor) -> Tensor:
        """Mix a map (B, C, S, Z, Y, X); the result has the same shape."""
        if x.device.type != "cuda" or torch.compiler.is_compiling():  # compilers fuse the operators below themselves
            return self._scale_by_scale(x, weights_of(self)[0])
        if suits(x, partial(self._gradients_of, self._by_product), partial(self._gradients_of, self._scale_by_scale)):
            return self._by_product(x, self.weight)
        return self._scale_by_scale(x, weights_of(self)[0])

    def _by_product(self, x: Tensor, weight: Tensor) -> Tensor:
        return scale_product(x, self._matrix(weight, x.shape[2]))

    def _matrix(self, weight: Tensor, scales: int) -> Tensor:
        """Return what each scale (first axis) takes of each (second axis), (S, S, C)."""
        constants = self._constants  # read once: another thread may replace them
        if constants is None or constants[0].shape[0] != scales**2 or constants[0].device != self.weight.device:
            shares = self._shares(scales).to(self.weight)
            constants = self._constants = torch.eye(scales).reshape(-1, 1).to(self.weight), shares.flatten(0, 1)
        identity, shares = constants
        with full_precision(self.weight.device):
            result = torch.addmm(identity.expand(-1, weight.shape[1]), shares, weight)
        return result.unflatten(0, (scales, scales))

    def _shares(self, scales: int) -> Tensor:
        """Return the factor of each weight in what a scale takes of another, (S, S, 2 * reach)."""
        offsets = [j for j in range(-self.reach, self.reach + 1) if j]
        shares = torch.zeros(scales, scales, len(offsets))
        for k in range(scales):
            present = [(index, k + j) for index, j in enumerate(offsets) if 0 <= k + j < scales]
            for index, neighbour in present:
                shares[k, neighbour, index] = len(offsets) / len(present)
        return shares

    def _gradients_of(self, mix: Callable[[Tensor, Tensor], Tensor], x: Tensor) -> Tensor:
        """Return the gradients of half the square of a result in a row: that of the map, and that of the weight, a sum over the voxels.

        The weight is not that of the layer, which begins with zeros.
        """
        with torch.enable_grad():
            given, weight = x.detach().requires_grad_(), (self.weight.detach() + 0.5).requires_grad_()
            result = mix(given, weight)
            of_map, of_weight = torch.autograd.grad(result, [given, weight], result.detach(), materialize_grads=True)
            return torch.cat([of_map.flatten(), (of_weight / x[:, 0, 0].numel()).to(of_map).flatten()])

    def _scale_by_scale(self, x: Tensor, weight: Tensor) -> Tensor:
        scales = x.shape[2]
        offsets = [j for j in range(-self.reach, self.reach + 1) if j]
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
