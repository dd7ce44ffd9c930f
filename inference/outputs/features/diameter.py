"""The largest distance between two points of a mask's surface, over the vertices of its convex hull."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist

_ROWS = 512  # hull vertices whose distances to all others are held at once


def largest_diameter(mask: NDArray[np.bool_], spacing: Sequence[float]) -> float:
    """Return the largest distance in mm between two vertices of the mesh (`inference.outputs.features.mesh`) of a mask (Z, Y, X).

    The vertices lie half a voxel from voxel centres along the axes. Both ends of the largest distance are vertices of the convex hull, and
    the hull is spanned by voxels that are the first or last of their row along each axis.

    Raises:
        ValueError: the mask is empty.
    """
    corners = _corners(mask)
    if not len(corners):
        raise ValueError("an empty mask has no diameter")
    halves = np.concatenate([np.eye(3), -np.eye(3)]) / 2
    points = ((corners[:, None] + halves) * np.asarray(spacing)).reshape(-1, 3)
    hull = points[ConvexHull(points).vertices]
    return max(float(cdist(hull[start : start + _ROWS], hull).max()) for start in range(0, len(hull), _ROWS))


def _corners(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Indices (N, 3) of the voxels that are the first or last of their rows along all three axes."""
    lines = np.argwhere(mask.any(axis=2))
    z, y = lines[:, 0].repeat(2), lines[:, 1].repeat(2)
    first, last = _ends(mask, 2)
    x = np.stack([first[tuple(lines.T)], last[tuple(lines.T)]], axis=1).reshape(-1)
    kept = np.ones(len(x), dtype=np.bool_)
    for axis, place, others in ((1, y, (z, x)), (0, z, (y, x))):
        low, high = _ends(mask, axis)
        kept &= (place == low[others]) | (place == high[others])
    return np.unique(np.stack([z, y, x], axis=1)[kept], axis=0)


def _ends(mask: NDArray[np.bool_], axis: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and last index inside the mask of every row along an axis; of no use for empty rows."""
    return mask.argmax(axis), mask.shape[axis] - 1 - np.flip(mask, axis).argmax(axis)
