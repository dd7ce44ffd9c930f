"""Resampling matrices applied the way that CPUs are fast with: in blocks of rows, each with only the inputs that it needs.

A row of a spline matrix reaches some ten voxels to either side; a dense product would mostly multiply by 0. In-plane axes are done
slice by slice, so that what one product writes is still in the cache when the next one reads it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_ROWS = 32  # of a block: enough for the product's speed, few enough to leave most inputs out


class Block(NamedTuple):
    """Some rows of a matrix: outputs `rows` are `weights` (rows, columns) times the inputs `columns`."""

    rows: slice
    columns: slice
    weights: Tensor


def blocks_of(matrix: Tensor) -> list[Block]:
    """Cut a matrix (outputs, inputs) into blocks of rows that leave out the inputs whose weights are 0."""
    blocks = []
    for start in range(0, len(matrix), _ROWS):
        rows = matrix[start : start + _ROWS]
        columns = nonzero_extent(rows.any(dim=0))
        blocks.append(Block(slice(start, start + len(rows)), columns, rows[:, columns].contiguous()))
    return blocks


def nonzero_extent(mask: Tensor) -> slice:
    """From the first to the last element that is true; empty where none is."""
    found = mask.nonzero()
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)


def apply_banded(volume: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    """Apply one matrix (outputs, inputs) to each axis of a volume (Z, Y, X) on a CPU; None leaves an axis as it is.

    The first axis is done last where it grows, so that no more than one intermediate volume is held beside the result, and that
    one is no larger than the result.
    """
    across, *in_plane = matrices
    if across is None:
        return _in_plane(volume, in_plane)
    if across.shape[0] < across.shape[1]:
        return _in_plane(_across(volume, across), in_plane)
    return _across(_in_plane(volume, in_plane), across)


def _across(volume: Tensor, matrix: Tensor) -> Tensor:
    """Along Z: all columns at once."""
    result = volume.new_empty(len(matrix), *volume.shape[1:])
    _multiply_left(blocks_of(matrix), volume.reshape(len(volume), -1), result.view(len(matrix), -1))
    return result


def _in_plane(volume: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    """Along Y and X, slice by slice."""
    left, right = (None if matrix is None else blocks_of(matrix) for matrix in matrices)
    if left is None and right is None:
        return volume
    height, width = (size if matrix is None else len(matrix) for size, matrix in zip(volume.shape[1:], matrices, strict=True))
    result = volume.new_empty(len(volume), height, width)
    between = volume.new_empty(height, volume.shape[2])
    for source, target in zip(volume, result, strict=True):
        if left is None:
            _multiply_right(right or [], source, target)
        elif right is None:
            _multiply_left(left, source, target)
        else:
            _multiply_left(left, source, between)
            _multiply_right(right, between, target)
    return result


def _multiply_left(blocks: Sequence[Block], source: Tensor, target: Tensor) -> None:
    for block in blocks:
        torch.mm(block.weights, source[block.columns], out=target[block.rows])


def _multiply_right(blocks: Sequence[Block], source: Tensor, target: Tensor) -> None:
    for block in blocks:
        torch.mm(source[:, block.columns], block.weights.T, out=target[:, block.rows])
