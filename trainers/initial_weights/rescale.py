"""Give convolutions before an instance norm the size of fresh weights: the network computes the same, and learns as fast as a fresh one.

An instance norm undoes any factor of the convolution before it. The factor matters for learning alone: steps of AdamW do not depend on the
size of a weight, so a weight that has grown to seven times its first size turns seven times more slowly (van Laarhoven 2017, "L2
regularization versus batch and weight normalization", section 3).
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from se_unet.layers.instance_norm import InstanceNorm
from se_unet.layers.pointwise import ScaleMixing


def sizes_before_norms(network: nn.Module) -> list[Tensor]:
    """Return the root mean square of the weights of each convolution before an instance norm, without its offsets."""
    return [_size(convolution) for convolution in _before_norms(network)]


def rescale_before_norms(network: nn.Module, sizes: list[Tensor]) -> None:
    """Multiply weights and offsets of each convolution before an instance norm by one factor, so that its weights have the given size."""
    for convolution, size in zip(_before_norms(network), sizes, strict=True):
        factor = size / _size(convolution)
        if factor.isfinite():
            with torch.no_grad():
                for parameter in _linear(convolution):
                    parameter.mul_(factor)


def _before_norms(network: nn.Module) -> list[nn.Module]:
    pairs = [pair for part in network.modules() if isinstance(part, nn.Sequential) for pair in pairwise(part)]
    return [convolution for convolution, norm in pairs if isinstance(norm, InstanceNorm)]


def _size(convolution: nn.Module) -> Tensor:
    weights = [parameter.detach().flatten() for parameter in _linear(convolution) if parameter.ndim > 1]
    return torch.cat(weights).square().mean().sqrt()


def _linear(convolution: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the parameters in which a convolution is linear: weights and offsets, but not those by which scales are mixed after it."""
    for part in convolution.modules():
        if not isinstance(part, ScaleMixing):
            yield from part.parameters(recurse=False)
