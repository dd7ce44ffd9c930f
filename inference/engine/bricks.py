"""Divide a grid into bricks, so that memory never holds all classes of all voxels."""

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

Extent = tuple[int, int]
VALUES = {"cpu": 2**21, "cuda": 2**26}  # class scores per brick: a few copies fit a CPU's cache; enough to keep a GPU busy
LONGEST = 64  # voxels along a resampled axis: short matrices cost less to multiply


def brick_shape(
    shape: Sequence[int], classes: int, resampled: Sequence[bool], device: str = "cpu", values: int | None = None
) -> tuple[int, int, int]:
    """Return the shape (Z, Y, X) in voxels of a brick of the grid `shape`, with `classes` scores per voxel.

    `resampled` tells for each axis whether scores are resampled along it. A brick has about `values` scores; None chooses by device type.
    """
    limit = max(1, (values or VALUES.get(device, VALUES["cpu"])) // classes)
    sizes = [min(size, LONGEST) if moved else size for size, moved in zip(shape, resampled, strict=True)]
    least = [min(size, 8) if moved else 1 for size, moved in zip(sizes, resampled, strict=True)]
    axis = 0
    while prod(sizes) > limit and axis < 3:  # X is contiguous in memory, so it is cut last
        if sizes[axis] > least[axis]:
            sizes[axis] = max(least[axis], -(-sizes[axis] // 2))
        else:
            axis += 1
    return sizes[0], sizes[1], sizes[2]


def ranges(size: int, length: int) -> list[Extent]:
    """Divide an axis of `size` voxels into ranges (start, stop) of at most `length` voxels."""
    return [(start, min(start + length, size)) for start in range(0, size, length)]


def bricks(shape: Sequence[int], brick: Sequence[int]) -> Iterator[tuple[Extent, Extent, Extent]]:
    """Return an iterator over all bricks of a grid, ordered by Z, then Y, then X."""
    z, y, x = (ranges(size, length) for size, length in zip(shape, brick, strict=True))
    return product(z, y, x)
