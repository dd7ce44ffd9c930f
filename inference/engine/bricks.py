"""A grid cut into bricks, so that all classes of a few voxels are in memory at a time and never those of all voxels."""

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

Range = tuple[int, int]
VALUES = {"cpu": 2**21, "cuda": 2**26}  # class scores in a brick: a CPU's cache holds a few copies, a GPU is kept busy
LONGEST = 64  # voxels along an axis that is resampled: products with short matrices cost less


def brick_shape(
    shape: Sequence[int], classes: int, resampled: Sequence[bool], device: str = "cpu", values: int | None = None
) -> tuple[int, int, int]:
    """Voxels (Z, Y, X) of a brick.

    Args:
        shape: of the grid.
        classes: scores of each voxel.
        resampled: axes along which scores come from another grid.
        device: type of device.
        values: scores of a brick; None chooses by device.
    """
    limit = max(1, (values or VALUES.get(device, VALUES["cpu"])) // classes)
    sizes = [min(size, LONGEST) if moved else size for size, moved in zip(shape, resampled, strict=True)]
    least = [min(size, 8) if moved else 1 for size, moved in zip(sizes, resampled, strict=True)]
    axis = 0
    while prod(sizes) > limit and axis < 3:  # X, which is innermost in memory, is cut last
        if sizes[axis] > least[axis]:
            sizes[axis] = max(least[axis], -(-sizes[axis] // 2))
        else:
            axis += 1
    return sizes[0], sizes[1], sizes[2]


def ranges(size: int, length: int) -> list[Range]:
    """An axis of `size` voxels in parts of `length` at most, as (first, behind the last)."""
    return [(start, min(start + length, size)) for start in range(0, size, length)]


def bricks(shape: Sequence[int], brick: Sequence[int]) -> Iterator[tuple[Range, Range, Range]]:
    """All bricks of a grid, in order of Z, then Y, then X."""
    z, y, x = (ranges(size, length) for size, length in zip(shape, brick, strict=True))
    return product(z, y, x)
