"""Turn images to the orientation of a plan, and back.

In canonical orientation the voxel indices (x, y, z) increase to the right, anterior and superior (RAS), as nearly as permuting and
flipping axes allows; oblique images stay oblique. In a slice frame, Z runs across thick slices. No voxel value changes, so the inverse is
exact. How a file stores its axes makes no difference: the turned array and its geometry are the same.
"""

from collections.abc import Sequence
from itertools import permutations, product

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from configs.files import Value
from configs.fingerprint import Directions, Spacing
from configs.plan import AxisOrder, Orientation, SliceFrame
from preprocessing.geometry.affine import Geometry

_TIE = 6  # decimals to which directions are compared, so that rounding does not decide between turns that are equally near


class Turn(Value):
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


TURNS = [
    Turn(axes=(z, y, x), flips=flips)
    for z, y, x in permutations((0, 1, 2))
    for flips in product((False, True), (False, True), (False, True))
]


def find_turn(geometry: Geometry, policy: Orientation) -> Turn:
    """Return the change from the stored orientation to that of a plan."""
    if policy == "as-stored":
        return Turn()
    if isinstance(policy, AxisOrder):
        first, (z, y, x) = find_turn(geometry, policy.of), policy.axes
        return Turn(axes=(first.axes[z], first.axes[y], first.axes[x]), flips=(first.flips[z], first.flips[y], first.flips[x]))
    if isinstance(policy, SliceFrame):
        return nearest_turn(geometry, policy.reference, allowed_turns(geometry, policy.thick))
    first = _independent_of_storage(geometry)
    towards = nib.orientations.io_orientation(first.apply_geometry(geometry).matrix)  # for x, y, z: canonical axis, and 1 or -1
    axes, flips = [0, 0, 0], [False, False, False]
    for source, (target, sign) in enumerate(towards):
        axes[2 - int(target)] = first.axes[2 - source]
        flips[2 - int(target)] = bool(sign < 0) != first.flips[2 - source]
    return Turn(axes=(axes[0], axes[1], axes[2]), flips=(flips[0], flips[1], flips[2]))


def thick_axis(spacing: Spacing, thick: float) -> int | None:
    """Return the axis of (Z, Y, X) across thick slices: the coarsest, if its spacing is more than `thick` times the next one."""
    _, next_coarsest, coarsest = sorted(spacing)
    return spacing.index(coarsest) if coarsest > thick * next_coarsest else None


def turned_directions(geometry: Geometry, turn: Turn) -> NDArray[np.float64]:
    """Return the directions (3, 3) of the axes x, y and z of the turned array, one row each."""
    signs = np.where(turn.flips, -1.0, 1.0)
    stored = geometry.direction.T[::-1]  # of the axes Z, Y, X
    return (stored[list(turn.axes)] * signs[:, None])[::-1]


def allowed_turns(geometry: Geometry, thick: float) -> list[Turn]:
    """Return the turns that do not mirror the anatomy and, for thick slices, bring the axis across them to Z."""
    across = thick_axis(geometry.spacing, thick)
    return [turn for turn in TURNS if across in (None, turn.axes[0]) and np.linalg.det(turned_directions(geometry, turn)) > 0]


def nearest_turn(geometry: Geometry, directions: ArrayLike, turns: Sequence[Turn]) -> Turn:
    """Return the turn to the smallest angle from the directions (3, 3) of axes x, y and z, one row each."""

    def rank(turn: Turn) -> tuple[float, list[float]]:
        turned = turned_directions(geometry, turn)
        cosine = float(np.multiply(turned, directions).sum())
        return round(cosine, _TIE), turned.round(_TIE).ravel().tolist()

    return max(turns, key=rank)


def as_directions(rows: NDArray[np.float64]) -> Directions:
    """Return an array (3, 3) of directions, one row each, as plain numbers."""
    x, y, z = ((float(row[0]), float(row[1]), float(row[2])) for row in rows)
    return x, y, z


def _independent_of_storage(geometry: Geometry) -> Turn:
    """Return a turn to an array that is the same for all ways to store an image; what to do where axes tie then is the same as well."""

    def rank(turn: Turn) -> list[float]:
        return turned_directions(geometry, turn).ravel().tolist()

    return max(TURNS, key=rank)
