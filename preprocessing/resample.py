"""Resampling of images and labels to another grid of the same extent.

Resampling is a separable linear operator: each axis is one matrix product (`se_unet.separable.spline_matrix`). If slices are thick,
the coarse axis is resampled by nearest neighbours and the others slice by slice, since interpolation across thick slices would
invent anatomy. On the way back, class scores are interpolated across slices too (`returning_matrices`).
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from configs.fingerprint import Shape
from configs.plan import Resampling
from preprocessing.geometry.cropping import parts
from se_unet.separable import apply_separable, spline_matrix

_ROWS = 32  # per block: enough for fast products, few enough to skip most inputs


class MatrixBlock(NamedTuple):
    """Rows of a matrix: the outputs `rows` are `weights` (rows, columns) times the inputs `columns`."""

    rows: slice
    columns: slice
    weights: Tensor


def blocks_of(matrix: Tensor) -> list[MatrixBlock]:
    """Divide a matrix (outputs, inputs) into blocks of rows without the inputs whose weights are 0."""
    blocks = []
    for start in range(0, len(matrix), _ROWS):
        rows = matrix[start : start + _ROWS]
        columns = nonzero_extent(rows.any(dim=0))
        blocks.append(MatrixBlock(slice(start, start + len(rows)), columns, rows[:, columns].contiguous()))
    return blocks


def nonzero_extent(mask: Tensor) -> slice:
    """Return the slice from the first to the last true element, empty if there are none."""
    found = mask.nonzero()
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)


def apply_banded(volume: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    """Apply one matrix (outputs, inputs) to each axis of a volume (Z, Y, X) on a CPU; None keeps an axis.

    The first axis is resampled last if it grows, so that memory holds at most one intermediate volume, no larger than the result.
    """
    across, *in_plane = matrices
    if across is None:
        return _in_plane(volume, in_plane)
    if across.shape[0] < across.shape[1]:
        return _in_plane(_across(volume, across), in_plane)
    return _across(_in_plane(volume, in_plane), across)


def _across(volume: Tensor, matrix: Tensor) -> Tensor:
    """Resample along Z, all columns at once."""
    result = volume.new_empty(len(matrix), *volume.shape[1:])
    _multiply_left(blocks_of(matrix), volume.reshape(len(volume), -1), result.view(len(matrix), -1))
    return result


def _in_plane(volume: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    """Resample along Y and X, slice by slice."""
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


def _multiply_left(blocks: Sequence[MatrixBlock], source: Tensor, target: Tensor) -> None:
    for block in blocks:
        torch.mm(block.weights, source[block.columns], out=target[block.rows])


def _multiply_right(blocks: Sequence[MatrixBlock], source: Tensor, target: Tensor) -> None:
    for block in blocks:
        torch.mm(source[:, block.columns], block.weights.T, out=target[:, block.rows])


Matrices = tuple[Tensor | None, Tensor | None, Tensor | None]
IMAGE_ORDER, LABEL_ORDER = 3, 1
_ORDERS = {"cubic": IMAGE_ORDER, "linear": 1}
_NEGLIGIBLE = 1e-8  # an output's weights sum to 1; smaller ones do not count in float32, and denormal ones are slow
_SLAB_VOXELS = 2**21
_TIE = 1e-6  # difference of shares that may be rounding
_CPU = torch.device("cpu")


def resampling_matrices(
    shape: Sequence[int], new_shape: Sequence[int], order: int, separate_axis: int | None, device: torch.device = _CPU
) -> Matrices:
    """Return one float32 matrix for each of (Z, Y, X); None for an axis that keeps its length."""

    def matrix(axis: int) -> Tensor | None:
        if shape[axis] == new_shape[axis]:
            return None
        return _resampling_matrix(shape[axis], new_shape[axis], 0 if axis == separate_axis else order).to(device)

    return matrix(0), matrix(1), matrix(2)


@lru_cache(maxsize=64)
def _resampling_matrix(n_in: int, n_out: int, order: int) -> Tensor:
    matrix = spline_matrix(n_in, n_out, order, torch.float32)
    return torch.where(matrix.abs() < _NEGLIGIBLE, 0, matrix)


def returning_matrices(
    shape: Sequence[int], stored_shape: Sequence[int], separate_axis: int | None, device: torch.device = _CPU
) -> Matrices:
    """Return the matrices that bring class scores from the grid of `resample_image` back to the grid of its input.

    Every axis is interpolated linearly, across thick slices between the slices that `resample_image` copied: see `returning_matrix`. The
    shapes (Z, Y, X) are those of the scores' grid and of the image's own; `separate_axis` is the axis that was resampled by nearest
    neighbours, or None.
    """
    matrices = list(resampling_matrices(shape, stored_shape, LABEL_ORDER, None, device))
    if separate_axis is not None and matrices[separate_axis] is not None:
        matrices[separate_axis] = returning_matrix(shape[separate_axis], stored_shape[separate_axis]).to(device)
    return matrices[0], matrices[1], matrices[2]


@lru_cache(maxsize=64)
def returning_matrix(n_in: int, n_out: int) -> Tensor:
    """Return the way back across thick slices, from `n_in` slices that are copies of some of `n_out` slices.

    A slice that was copied gets the mean over its copies, so that what a network says about a slice stays in that slice. A slice
    that was left out is interpolated linearly between the nearest slices that were copied. The nearest slice twice would repeat a
    slice instead.

    Returns:
        (n_out, n_in) float32, whose rows sum to 1; shared between callers: do not change it in place.
    """
    origin = spline_matrix(n_out, n_in, 0).argmax(1).numpy()  # the slice that each of the `n_in` slices is a copy of
    copied, copies = np.unique(origin, return_counts=True)
    mean = (copied[:, None] == origin) / copies[:, None]
    between = np.stack([np.interp(np.arange(n_out), copied, one) for one in np.eye(len(copied))], axis=1)
    return torch.from_numpy(between @ mean).float()


def apply_matrices(volume: Tensor, matrices: Matrices) -> Tensor:
    """Apply one matrix to each of the last three axes of (..., Z, Y, X); None keeps an axis."""
    if volume.device != _CPU or volume.dtype != torch.float32:
        return apply_separable(volume, matrices)
    if volume.ndim == 3:
        return apply_banded(volume, matrices)
    return torch.stack([apply_matrices(part, matrices) for part in volume])


def resample_image(
    image: NDArray[np.float32],
    new_shape: Shape,
    separate_axis: int | None = None,
    device: torch.device = _CPU,
    how: Resampling = Resampling(),  # noqa: B008 - frozen
) -> NDArray[np.float32]:
    """Resample (C, Z, Y, X) to (C, *new_shape) by splines, clamped to the range of each channel, or of each thick slice in it.

    `separate_axis` is the axis of (Z, Y, X) resampled by nearest neighbours, or None. Channels are computed one by one on the device.

    Returns:
        The image (C, *new_shape) float32.
    """
    if image.shape[1:] == new_shape:
        return image
    matrices = resampling_matrices(image.shape[1:], new_shape, _ORDERS[how.images], separate_axis, device)
    channels = []
    for channel in image:
        source = torch.from_numpy(np.ascontiguousarray(channel)).to(device)
        low, high = _limits(source, matrices, separate_axis if how.clamp == "slice" else None)
        channels.append(apply_matrices(source, matrices).clamp_(low, high).cpu().numpy())
    return channels[0][None] if len(channels) == 1 else np.stack(channels)


def _limits(source: Tensor, matrices: Matrices, across: int | None) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest value of a volume (Z, Y, X), or along `across` those of the slice that each slice copies."""
    if across is None:
        return torch.aminmax(source)
    axes, nearest = [axis for axis in range(3) if axis != across], matrices[across]
    limits = source.amin(axes, keepdim=True), source.amax(axes, keepdim=True)
    if nearest is None:
        return limits
    low, high = (nearest @ limit.flatten() for limit in limits)
    shape = [-1 if axis == across else 1 for axis in range(3)]
    return low.view(shape), high.view(shape)


def resample_labels(
    labels: NDArray[np.int16], new_shape: Shape, separate_axis: int | None = None, slab_voxels: int = _SLAB_VOXELS
) -> NDArray[np.int16]:
    """Resample each class's indicator linearly; the class with the largest share wins.

    Of a tie, the class of the nearest voxel wins if it is one of them, else the lowest index, as in batchgenerators and nnU-Net.

    To save memory, the result is computed slab by slab. Only the largest share so far and the sum of all shares are kept, and each
    foreground class is resampled within its bounding box; the background has the remaining share. `separate_axis` is as for images; a slab
    has about `slab_voxels` voxels.

    Returns:
        Class indices (*new_shape) int16.
    """
    if labels.shape == new_shape:
        return labels
    matrices = resampling_matrices(labels.shape, new_shape, LABEL_ORDER, separate_axis)
    winner = np.zeros(new_shape, dtype=np.int16)
    z, y, x = (_nearest(before, after) for before, after in zip(labels.shape, new_shape, strict=True))
    for slab in parts(new_shape[0], max(1, slab_voxels // math.prod(new_shape[1:]))):
        rows, needed = _rows(matrices[0], slab)
        nearest = labels[np.ix_(z[slab], y, x)]
        _fill_with_winners(winner[slab], labels[needed], nearest, (rows, *matrices[1:]))
    return winner


def _nearest(n_in: int, n_out: int) -> NDArray[np.intp]:
    """Return the voxel nearest to each of `n_out` voxels of the same extent, the upper one of two."""
    return np.floor((np.arange(n_out) + 0.5) * (n_in / n_out)).astype(np.intp)


def _fill_with_winners(
    winner: NDArray[np.int16], labels: NDArray[np.int16], nearest: NDArray[np.int16], matrices: Matrices
) -> None:
    """Write the winning classes into a slab of zeros."""
    best, total = np.zeros(winner.shape, dtype=np.float32), np.zeros(winner.shape, dtype=np.float32)
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        (along_z, z), (along_y, y), (along_x, x) = (_part(matrix, extent) for matrix, extent in zip(matrices, box, strict=True))
        target = (z, y, x)
        indicator = torch.from_numpy((labels[box] == index).astype(np.float32))
        share = apply_matrices(indicator, (along_z, along_y, along_x)).numpy()
        total[target] += share
        lead = share - best[target]
        wins = lead > _TIE
        wins |= (lead >= -_TIE) & (nearest[target] == index)
        np.copyto(winner[target], np.int16(index), where=wins)
        np.maximum(best[target], share, out=best[target])
    lead = best - (1 - total)  # before the background
    winner[(lead < -_TIE) | ((lead <= _TIE) & (nearest != winner))] = 0


def _part(matrix: Tensor | None, extent: slice) -> tuple[Tensor | None, slice]:
    """Return the rows of a matrix that depend on inputs in `extent`, restricted to these inputs' columns, and these rows."""
    if matrix is None:
        return None, extent
    columns = matrix[:, extent]
    reached = nonzero_extent(columns.any(dim=1))
    return columns[reached], reached


def _rows(matrix: Tensor | None, wanted: slice) -> tuple[Tensor | None, slice]:
    """Return some rows of a matrix, restricted to the columns they need, and these columns."""
    if matrix is None:
        return None, wanted
    rows = matrix[wanted]
    needed = nonzero_extent(rows.any(dim=0))
    return rows[:, needed], needed
