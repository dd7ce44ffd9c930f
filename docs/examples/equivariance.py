"""Measure the scale equivariance of layers, and require it as a test would."""

import torch
from torch import nn

from se_unet import GroupConvolution, LiftingConvolution, assert_equivariant, equivariance_error

STEP = 2 ** (1 / 3)  # ratio of neighbouring scales
WIDTHS = [(0.8 * STEP**k,) * 3 for k in range(4)]  # kernel width of each scale along (Z, Y, X), in voxels
GRID = {"size": 40, "interior": 11}  # voxels per axis of the random images, and of the part that is compared

torch.manual_seed(0)
lifting = LiftingConvolution(1, 4, WIDTHS)  # (B, 1, Z, Y, X) -> (B, 4, 4, Z, Y, X)
group = GroupConvolution(4, 4, WIDTHS)  # (B, 4, 4, Z, Y, X) -> the same shape
layers = nn.Sequential(lifting, nn.LeakyReLU(0.01), group)
ordinary = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.LeakyReLU(0.01), nn.Conv3d(4, 4, 3, padding=1))

# Enlarging the image by one step moves the features up by one scale: shift=1. Ordinary features have no scales.
print(f"lifting convolution      {equivariance_error(lifting, STEP, shift=1, **GRID):.5f}")
print(f"group convolution        {equivariance_error(group, STEP, channels=4, scales=4, shift=1, **GRID):.5f}")
print(f"both, with a rectifier   {equivariance_error(layers, STEP, shift=1, **GRID):.5f}")
print(f"ordinary convolutions    {equivariance_error(ordinary, STEP, **GRID):.5f}")

assert_equivariant(layers, STEP, limit=0.005, shift=1, **GRID)
try:
    assert_equivariant(ordinary, STEP, limit=0.005, **GRID)
except AssertionError as error:
    print(f"ordinary convolutions fail: {error}")
