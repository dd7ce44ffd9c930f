"""The grid that an image is resampled to. This module does not import torch, so that planning loads fast."""

import math
from collections.abc import Sequence

from configs.errors import times
from configs.fingerprint import Shape, Spacing

_FAR = 10  # ratio of spacings beyond which another unit is likelier than another scan


def resampled_shape(shape: Sequence[int], spacing: Sequence[float], new_spacing: Sequence[float]) -> Shape:
    """Return the shape (Z, Y, X) of the same extent at another spacing, at least one voxel per axis."""
    z, y, x = (max(1, round(n * old / new)) for n, old, new in zip(shape, spacing, new_spacing, strict=True))
    return z, y, x


def spacing_doubt(spacing: Spacing, planned: Spacing) -> str | None:
    """Return in words that voxels are far finer or coarser than planned along every axis, as with another unit; else None."""
    ratios = [own / each for own, each in zip(spacing, planned, strict=True)]
    if max(ratios) * _FAR >= 1 and min(ratios) <= _FAR:
        return None
    return f"its spacing {times(spacing)} mm (Z, Y, X) is more than {_FAR} times another than the planned {times(planned)} mm"


def find_separate_axis(spacing: Spacing, planned: Spacing, ratio: float | None) -> int | None:
    """Return the axis of (Z, Y, X) along which slices are too thick to interpolate, or None.

    This is the coarsest axis of the image, or else of the planned grid, if its spacing exceeds the finest by more than `ratio` and
    no other axis is equally coarse. Without a ratio there is no such axis.
    """
    if ratio is None:
        return None
    for candidate in (spacing, planned):
        coarsest = max(candidate)
        if coarsest / min(candidate) > ratio:
            axes = [axis for axis, size in enumerate(candidate) if math.isclose(size, coarsest)]
            return axes[0] if len(axes) == 1 else None
    return None
