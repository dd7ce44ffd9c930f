"""Images, labels and class scores from one grid to another of the same extent.

Resampling is a separable linear operator: each axis is one matrix product (`se_unet.separable.spline_matrix`). Where slices are
thick, the coarse axis is resampled by the nearest neighbour and the others slice by slice, as interpolating across thick slices
would invent anatomy.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from configs.fingerprint import Shape
from se_unet.separable import apply_separable, spline_matrix

Matrices = tuple[Tensor | None, Tensor | None, Tensor | None]
IMAGE_ORDER, LABEL_ORDER = 3, 1


def resampling_matrices(shape: Sequence[int], new_shape: Sequence[int], order: int, separate_axis: int | None) -> Matrices:
    """One float32 matrix for each of (Z, Y, X); None where an axis keeps its length."""

    def matrix(axis: int) -> Tensor | None:
        if shape[axis] == new_shape[axis]:
            return None
        return spline_matrix(shape[axis], new_shape[axis], 0 if axis == separate_axis else order, torch.float32)

    return matrix(0), matrix(1), matrix(2)


def resample_image(image: NDArray[np.float32], new_shape: Shape, separate_axis: int | None = None) -> NDArray[np.float32]:
    """Resample by cubic splines, held within each channel's range.

    Args:
        image: (C, Z, Y, X).
        new_shape: (Z, Y, X).
        separate_axis: axis of (Z, Y, X) that takes nearest neighbours.

    Returns:
        (C, *new_shape) float32.
    """
    if image.shape[1:] == new_shape:
        return image
    matrices = resampling_matrices(image.shape[1:], new_shape, IMAGE_ORDER, separate_axis)
    resampled = np.empty((len(image), *new_shape), dtype=np.float32)
    for source, target in zip(image, resampled, strict=True):
        values = apply_separable(torch.from_numpy(np.ascontiguousarray(source)), matrices)
        torch.from_numpy(target).copy_(values.clamp_(float(source.min()), float(source.max())))
    return resampled


def resample_labels(labels: NDArray[np.int16], new_shape: Shape, separate_axis: int | None = None) -> NDArray[np.int16]:
    """Resample each class's indicator linearly; the class with the largest share wins, the lower index where two tie.

    Only the best share so far is held, and each class is resampled within its own box, never all classes at once.

    Args:
        labels: (Z, Y, X) class indices.
        new_shape: (Z, Y, X).
        separate_axis: axis of (Z, Y, X) that takes nearest neighbours.

    Returns:
        (Z, Y, X) int16.
    """
    if labels.shape == new_shape:
        return labels
    matrices = resampling_matrices(labels.shape, new_shape, LABEL_ORDER, separate_axis)
    best = np.zeros(new_shape, dtype=np.float32)
    winner = np.zeros(new_shape, dtype=np.int16)
    for index, box in enumerate(ndimage.find_objects(labels.astype(np.int32) + 1)):
        if box is None:
            continue
        parts = [_part(matrix, extent) for matrix, extent in zip(matrices, box, strict=True)]
        target = tuple(rows for _, rows in parts)
        indicator = torch.from_numpy((labels[box] == index).astype(np.float32))
        share = apply_separable(indicator, [part for part, _ in parts]).numpy()
        wins = share > best[target]
        best[target][wins] = share[wins]
        winner[target][wins] = index
    return winner


def resample_scores(
    scores: Tensor, new_shape: Shape, separate_axis: int | None, decide: Callable[[Tensor], Tensor], slab_voxels: int = 2**21
) -> Tensor:
    """Resample class scores linearly and decide, slab by slab: all classes at full size are never in memory at once.

    Args:
        scores: (K, Z, Y, X), on any device.
        new_shape: (Z, Y, X).
        separate_axis: axis of (Z, Y, X) that takes nearest neighbours.
        decide: from scores (K, z, Y, X) of a slab to (z, Y, X) or (N, z, Y, X), voxel by voxel.
        slab_voxels: about how many voxels a slab has.

    Returns:
        The decisions on the new grid: (Z, Y, X) or (N, Z, Y, X), on the CPU.
    """
    matrices = resampling_matrices(scores.shape[1:], new_shape, LABEL_ORDER, separate_axis)
    on_device = [None if matrix is None else matrix.to(scores.device, scores.dtype) for matrix in matrices]
    thickness = max(1, slab_voxels // math.prod(new_shape[1:]))
    slabs = []
    for start in range(0, new_shape[0], thickness):
        stop = min(start + thickness, new_shape[0])
        if on_device[0] is None:
            slab = scores[:, start:stop]
            rows = None
        else:
            rows, needed = _rows(on_device[0], start, stop)
            slab = scores[:, needed]
        slabs.append(decide(apply_separable(slab, [rows, *on_device[1:]])).cpu())
    return torch.cat(slabs, dim=-3)


def _part(matrix: Tensor | None, extent: slice) -> tuple[Tensor | None, slice]:
    """The rows of a matrix that inputs in `extent` reach, with only these inputs' columns."""
    if matrix is None:
        return None, extent
    columns = matrix[:, extent]
    reached = columns.any(dim=1).nonzero()
    if not len(reached):
        return columns[:0], slice(0, 0)
    start, stop = int(reached[0]), int(reached[-1]) + 1
    return columns[start:stop], slice(start, stop)


def _rows(matrix: Tensor, start: int, stop: int) -> tuple[Tensor, slice]:
    """Some rows of a matrix, with only the inputs' columns that they need."""
    rows = matrix[start:stop]
    needed = rows.any(dim=0).nonzero()
    first, last = int(needed[0]), int(needed[-1]) + 1
    return rows[:, first:last], slice(first, last)
