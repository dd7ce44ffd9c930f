"""nnU-Net's corruption of the first network's segmentation, by which the second network of a cascade learns not to trust it."""

from collections.abc import Callable

import cc3d
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

_Mask = NDArray[np.bool_]

P_MORPHOLOGY = 0.4
P_REMOVAL = 0.2
P_LABEL = 0.5  # for each class, once the above is drawn
RADII = (1, 8)  # of the ball, in voxels
LARGEST_REMOVED = 0.15  # component, as a share of the patch


def disturb(segmentation: NDArray[np.float32], random: Generator) -> NDArray[np.float32]:
    """Apply random dilation, erosion, opening or closing of classes and random removal of a component.

    The one-hot segmentation (channels, Z, Y, X), with one class per channel, is changed in place.
    """
    if random.random() < P_MORPHOLOGY:
        for index in random.permutation(len(segmentation)):
            if random.random() < P_LABEL:
                _change(
                    segmentation,
                    int(index),
                    _OPERATIONS[random.integers(len(_OPERATIONS))],
                    int(random.integers(*RADII, endpoint=True)),
                )
    if random.random() < P_REMOVAL:
        for index in random.permutation(len(segmentation)):
            if random.random() < P_LABEL:
                _remove_component(segmentation[index], random)
    return segmentation


def grow(mask: _Mask, radius: float) -> _Mask:
    """Dilate a mask (Z, Y, X) by a ball with this radius in voxels."""
    if not mask.any():
        return mask
    return np.asarray(distance_transform_edt(~mask) <= radius)


def shrink(mask: _Mask, radius: float) -> _Mask:
    """Erode a mask (Z, Y, X) by a ball with this radius in voxels; beyond the border there is background."""
    return ~grow(~np.pad(mask, int(radius) + 1), radius)[(slice(int(radius) + 1, -int(radius) - 1),) * 3]


def _open(mask: _Mask, radius: float) -> _Mask:
    return grow(shrink(mask, radius), radius)


def _close(mask: _Mask, radius: float) -> _Mask:
    return shrink(grow(mask, radius), radius)


_OPERATIONS: tuple[Callable[[_Mask, float], _Mask], ...] = (grow, shrink, _open, _close)


def _change(segmentation: NDArray[np.float32], index: int, operation: Callable[[_Mask, float], _Mask], radius: int) -> None:
    """Change one class; the voxels it gains are removed from the others."""
    before = segmentation[index] > 0
    after = operation(before, radius)
    segmentation[:, after & ~before] = 0
    segmentation[index] = after


def _remove_component(channel: NDArray[np.float32], random: Generator) -> None:
    components = cc3d.connected_components(np.ascontiguousarray(channel > 0))
    sizes = np.bincount(components.ravel())[1:]
    small = np.flatnonzero(sizes < LARGEST_REMOVED * channel.size) + 1
    if len(small):
        channel[components == small[random.integers(len(small))]] = 0
