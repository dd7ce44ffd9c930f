"""Turn images to canonical orientation, and back.

In canonical orientation the voxel indices (x, y, z) increase to the right, anterior and superior (RAS), as nearly as permuting and
flipping axes allows; oblique images stay oblique. No voxel value changes, so the inverse is exact.
"""

from typing import Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from configs.files import Value
from preprocessing.geometry.affine import Geometry

Policy = Literal["canonical", "as-stored"]


class Orientation(Value):
    """Permutation and flips of a stored array (Z, Y, X): output axis i is input axis `axes[i]`, reversed if `flips[i]`."""

    axes: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    def apply(self, array: NDArray) -> NDArray:
        """Turn the last three axes of a stored array, and return a view."""
        lead = array.ndim - 3
        turned = array.transpose(*range(lead), *(lead + axis for axis in self.axes))
        return np.flip(turned, tuple(lead + axis for axis, flip in enumerate(self.flips) if flip))

    def invert(self, array: NDArray) -> NDArray:
        """Turn the last three axes back, and return a view."""
        lead = array.ndim - 3
        straight = np.flip(array, tuple(lead + axis for axis, flip in enumerate(self.flips) if flip))
        back = np.argsort(self.axes)
        return straight.transpose(*range(lead), *(lead + int(axis) for axis in back))

    def apply_geometry(self, geometry: Geometry) -> Geometry:
        """Return the geometry of the turned array, whose voxels keep their positions in space."""
        shape = tuple(geometry.shape[axis] for axis in self.axes)
        turn = np.zeros((4, 4))
        turn[3, 3] = 1
        for axis, (source, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            turn[2 - source, 2 - axis] = -1 if flip else 1
            turn[2 - source, 3] = shape[axis] - 1 if flip else 0
        return Geometry.from_affine(shape, geometry.matrix @ turn)


def find_orientation(geometry: Geometry, policy: Policy) -> Orientation:
    """Return the orientation change to canonical orientation, or none if the policy is `as-stored`."""
    if policy == "as-stored":
        return Orientation()
    towards = nib.orientations.io_orientation(geometry.matrix)  # for each stored axis x, y, z: its canonical axis, and 1 or -1
    axes, flips = [0, 0, 0], [False, False, False]
    for source, (target, sign) in enumerate(towards):
        axes[2 - int(target)] = 2 - source
        flips[2 - int(target)] = bool(sign < 0)
    return Orientation(axes=(axes[0], axes[1], axes[2]), flips=(flips[0], flips[1], flips[2]))
