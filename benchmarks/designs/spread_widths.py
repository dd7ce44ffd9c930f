"""Kernels of several widths within a layer: groups of channels are blurred differently before the same smooth convolution.

A candidate for several scales in the network that costs no further multiply-adds in convolutions: blurs of different widths take the
place of one. The widths are fixed, or learned as in N-Jet (Pintea et al. 2021), one for each group of channels of a layer.
"""

import torch
from torch import Tensor, nn

from se_unet.layers.convolution import GroupConvolution
from se_unet.separable import apply_separable, toeplitz_matrix

WIDTHS = (0.9, 1.13, 1.43, 1.8)  # of the kernels, in voxels of the layer's grid
RADIUS = 6  # of the sampled Gaussians in voxels, which holds learned ones up to about two voxels


class SpreadConvolution(nn.Module):
    """A smooth convolution of a map of one scale (B, C, 1, Z, Y, X), whose kernels have another width in each group of channels.

    Args:
        convolution: the convolution that follows the blurs.
        sigma: its own width in voxels. Blurs widen it, so that no kernel is narrower.
        learned: whether the widths of the blurs are weights.
    """

    def __init__(self, convolution: nn.Module, sigma: float, learned: bool):
        super().__init__()
        self.convolution = convolution
        squares = torch.tensor(WIDTHS) ** 2 - sigma**2
        self.log_blurs = nn.Parameter(0.5 * squares.clamp(min=0.01).log(), requires_grad=learned)

    def forward(self, x: Tensor) -> Tensor:
        """Blur each group of channels, then convolve all of them."""
        groups = x.tensor_split(len(WIDTHS), 1)
        blurred = [_blur(group, blur) for group, blur in zip(groups, self.log_blurs.exp(), strict=True)]
        return self.convolution(torch.cat(blurred, 1))


def _blur(x: Tensor, sigma: Tensor) -> Tensor:
    offsets = torch.arange(-RADIUS, RADIUS + 1, device=x.device)
    taps = torch.exp(-0.5 * (offsets / sigma) ** 2)
    return apply_separable(x, [toeplitz_matrix(taps / taps.sum(), size) for size in x.shape[-3:]])


def spread_widths(network: nn.Module, sigma: float, learned: bool) -> nn.Module:
    """Replace the convolutions of a network of one scale by ones of several widths, and return the network."""
    for name, child in network.named_children():
        if isinstance(child, GroupConvolution):
            setattr(network, name, SpreadConvolution(child, sigma, learned))
        else:
            spread_widths(child, sigma, learned)
    return network
