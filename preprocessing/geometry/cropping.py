"""Crop an image to its nonzero box, and undo it."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from configs.files import Value
from configs.fingerprint import Shape

PART = 2**22  # elements: enough for fast array operations; 32 MiB at eight bytes each


def parts(size: int, length: int = PART) -> Iterator[slice]:
    """Yield slices of at most `length` elements that cover `size` elements in order."""
    for start in range(0, size, length):
        yield slice(start, min(start + length, size))


class Box(Value):
    """A box of voxels from `start` up to but excluding `stop`, both (Z, Y, X)."""

    start: Shape
    stop: Shape

    @property
    def shape(self) -> Shape:
        """Shape (Z, Y, X) in voxels."""
        z, y, x = (stop - start for start, stop in zip(self.start, self.stop, strict=True))
        return z, y, x

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Slices (Z, Y, X) of the box."""
        z, y, x = (slice(start, stop) for start, stop in zip(self.start, self.stop, strict=True))
        return z, y, x

    def crop(self, array: NDArray) -> NDArray:
        """Return the box of an array (..., Z, Y, X) as a view."""
        return array[(..., *self.slices)]

    def paste(self, content: NDArray, shape: Shape, fill: float = 0) -> NDArray:
        """Undo `crop`: return an array (..., *shape) with the content in the box and `fill` around it."""
        whole = np.full((*content.shape[:-3], *shape), fill, dtype=content.dtype)
        whole[(..., *self.slices)] = content
        return whole


def nonzero_box(image: NDArray) -> Box:
    """Return the smallest box with all voxels of (C, Z, Y, X) that are nonzero in any channel; the whole image if there are none."""
    occupied = (image != 0).any(axis=0)
    start, stop = [], []
    for axis in range(3):
        found = np.flatnonzero(occupied.any(axis=tuple(other for other in range(3) if other != axis)))
        start.append(int(found[0]) if found.size else 0)
        stop.append(int(found[-1]) + 1 if found.size else occupied.shape[axis])
    return Box(start=(start[0], start[1], start[2]), stop=(stop[0], stop[1], stop[2]))


def nonzero_mask(image: NDArray) -> NDArray[np.bool_]:
    """Return the mask (Z, Y, X) of voxels that are nonzero in any channel of (C, Z, Y, X), with holes filled."""
    return ndimage.binary_fill_holes((image != 0).any(axis=0))
