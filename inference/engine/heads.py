"""Split networks whose class scores are a linear function of fewer features, so that features are summed over tiles.

If the head is a convolution of one voxel, the scores s = W f + b are linear in the features f of the last stage, and so is their
weighted mean over tiles and reflections: `mean(s) = W mean(f) + b`. With 100 classes and 32 features this takes a third of the
memory, and the head runs once per voxel instead of once per tile and reflection.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from se_unet.cpu.layers import OneDNNConvolution
from se_unet.unet import UNet


@dataclass(frozen=True)
class Scorer:
    """A network in two parts."""

    body: Callable[[Tensor], Tensor]  # function (B, C, Z, Y, X) -> (B, F, Z, Y, X) whose results are summed over tiles
    head: Callable[[Tensor], Tensor] | None  # function (F, ...) float32 -> class scores (K, ...); None if the body returns scores


class _LastFeatures(nn.Module):
    """A U-Net without its head."""

    def __init__(self, network: UNet):
        super().__init__()
        self.network = network
        self.training = network.training

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, Z, Y, X) to the features (B, F, Z, Y, X) before the head."""
        return self.network.stages(x)[0]


def split_network(network: nn.Module) -> Scorer:
    """Split a network whose head is a convolution of one voxel with more classes than features; leave others whole."""
    head = network.heads[0] if isinstance(network, UNet) else None
    if not isinstance(network, UNet) or not isinstance(head, (nn.Conv3d, OneDNNConvolution)):
        return Scorer(network, None)
    classes, features, *kernel = head.weight.shape
    if max(kernel) > 1 or features >= classes:
        return Scorer(network, None)
    weight, bias = head.weight.detach().float().flatten(1), head.bias

    def score(features: Tensor) -> Tensor:
        scores = weight.to(features.device) @ features.reshape(len(features), -1)  # features may lie in host memory
        if bias is not None:
            scores += bias.detach().to(features.device, torch.float32)[:, None]
        return scores.reshape(-1, *features.shape[1:])

    return Scorer(_LastFeatures(network), score)


def identity(scores: Tensor) -> Tensor:
    """Return the scores as float32."""
    return scores if scores.dtype == torch.float32 else scores.float()
