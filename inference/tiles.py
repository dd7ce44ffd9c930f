"""Where the tiles of a sliding window lie, and how much each of their voxels counts.

Both follow nnU-Net (Isensee et al. 2021), so that the same weights give the same scores: tiles overlap by an even step, and a
Gaussian of sigma = patch / 8 trusts the middle of a tile more than its border.
"""

from collections.abc import Sequence
from itertools import product
from math import ceil

import torch
from torch import Tensor

Start = tuple[int, int, int]


def axis_starts(size: int, patch: int, step: float) -> list[int]:
    """First voxels of the tiles along one axis.

    As few tiles as the step allows, spread evenly from the first to the last voxel.

    Args:
        size: voxels of the axis, at least `patch`.
        patch: voxels of a tile.
        step: largest distance of neighbouring tiles, as a share of `patch`, in (0, 1].

    Raises:
        ValueError: the step is out of range or the axis shorter than a tile.
    """
    if not 0 < step <= 1:
        raise ValueError(f"the step must be above 0 and at most 1, not {step}")
    if size < patch:
        raise ValueError(f"an axis of {size} voxels is shorter than a tile of {patch}: pad it first")
    count = min(ceil((size - patch) / (patch * step)), size - patch) + 1  # no two tiles at one place
    if count == 1:
        return [0]
    return [round(index * (size - patch) / (count - 1)) for index in range(count)]


def tile_starts(shape: Sequence[int], patch_size: Sequence[int], step: float) -> list[Start]:
    """First voxels (Z, Y, X) of all tiles, in order of Z, then Y, then X."""
    z, y, x = (axis_starts(size, patch, step) for size, patch in zip(shape, patch_size, strict=True))
    return list(product(z, y, x))


def axis_weights(patch: int) -> Tensor:
    """Gaussian of sigma = patch / 8 about the voxel patch // 2; 1 at its peak, exp(-8) at the border of an even patch.

    Returns:
        (patch,) float32.
    """
    distance = torch.arange(patch, dtype=torch.float64) - patch // 2
    return torch.exp(-0.5 * (distance * (8 / patch)) ** 2).float()


def axis_coverage(size: int, patch: int, step: float) -> Tensor:
    """Sum over the tiles of one axis of their weights at each voxel; positive everywhere.

    Tiles form a grid and their weights are products over axes, so the sum over all tiles of a volume is the outer product
    of these.

    Returns:
        (size,) float32.
    """
    weights = axis_weights(patch)
    total = torch.zeros(size)
    for start in axis_starts(size, patch, step):
        total[start : start + patch] += weights
    return total


def axis_shares(size: int, patch: int, step: float) -> dict[int, Tensor]:
    """First voxel of each tile of one axis -> its weights (patch,) as shares of all tiles' weights at these voxels: they add up to 1."""
    weights, coverage = axis_weights(patch), axis_coverage(size, patch, step)
    return {start: weights / coverage[start : start + patch] for start in axis_starts(size, patch, step)}
