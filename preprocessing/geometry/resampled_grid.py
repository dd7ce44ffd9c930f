"""The grid that an image is resampled to, and along which axis not to interpolate. Without torch: planning needs these alone."""

import math
from collections.abc import Sequence

from configs.fingerprint import Shape, Spacing


def resampled_shape(shape: Sequence[int], spacing: Sequence[float], new_spacing: Sequence[float]) -> Shape:
    """Voxels (Z, Y, X) of the same extent at another spacing, at least one per axis."""
    z, y, x = (max(1, round(n * old / new)) for n, old, new in zip(shape, spacing, new_spacing, strict=True))
    return z, y, x


def find_separate_axis(spacing: Spacing, planned: Spacing, ratio: float) -> int | None:
    """The axis along which slices are too thick to interpolate, or None.

    It is the coarsest axis of the image, or else of the planned grid, where it exceeds the finest by more than `ratio` and
    no other axis is as coarse.
    """
    for candidate in (spacing, planned):
        coarsest = max(candidate)
        if coarsest / min(candidate) > ratio:
            axes = [axis for axis, size in enumerate(candidate) if math.isclose(size, coarsest)]
            return axes[0] if len(axes) == 1 else None
    return None
