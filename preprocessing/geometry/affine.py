"""The geometry of images. This module defines the axis order.

Arrays have axes (Z, Y, X), so that the last axis is the first voxel index of the file. Spacings are in mm in the same order. The
affine is NIfTI's: it maps voxel indices (x, y, z) to millimetres (right, anterior, superior).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.fingerprint import Shape, Spacing

Affine = tuple[tuple[float, ...], ...]
AXIS_NAMES = ("Z", "Y", "X")
SMALLEST, LARGEST = 1e-6, 1e4  # mm between voxels: no imaging method has voxels below a nanometre or above ten metres
_NOT_ORTHONORMAL = 1e-2  # largest deviation of the direction matrix from orthonormal that header rounding can explain


@dataclass(frozen=True)
class Geometry:
    """Shape, spacing and position of an image.

    Attributes:
        shape: shape (Z, Y, X) in voxels.
        spacing: spacing (Z, Y, X) in mm.
        affine: four rows of the matrix that maps voxel indices (x, y, z, 1) to RAS+ millimetres.

    Raises:
        ValueError: a spacing is not positive or no possible length, the axes are not orthogonal, or spacing and affine contradict
            each other.
    """

    shape: Shape
    spacing: Spacing
    affine: Affine

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or any(size < 1 for size in self.shape):
            raise ValueError(f"shape must be three positive numbers of voxels, not {self.shape}")
        if len(self.spacing) != 3 or not all(SMALLEST <= size <= LARGEST for size in self.spacing):
            raise ValueError(
                f"spacing must be three positive lengths in mm, from {SMALLEST:g} to {LARGEST:g}, not {self.spacing}"
            )
        if self.matrix.shape != (4, 4) or not np.isfinite(self.matrix).all():
            raise ValueError(f"the affine must be four rows of four finite numbers, not {self.affine}")
        if not np.allclose(column_lengths(self.matrix), self.spacing[::-1], rtol=1e-4):
            raise ValueError(
                f"the affine's voxel sizes {column_lengths(self.matrix)} (x, y, z) contradict the spacing {self.spacing}"
            )
        deviation = np.abs(self.direction.T @ self.direction - np.eye(3)).max()
        if deviation > _NOT_ORTHONORMAL:
            raise ValueError(f"the axes are not at right angles (deviation {deviation:.3f}, at most {_NOT_ORTHONORMAL})")

    @classmethod
    def from_affine(cls, shape: Sequence[int], affine: NDArray[np.float64] | Affine) -> "Geometry":
        """Return the geometry of an array (Z, Y, X) with a NIfTI affine, which determines the spacing.

        Raises:
            ValueError: as the class.
        """
        matrix = np.asarray(affine, dtype=np.float64)
        if matrix.shape != (4, 4):
            raise ValueError(f"the affine must be 4 x 4, not {matrix.shape}")
        x, y, z = (float(length) for length in column_lengths(matrix))
        rows = tuple(tuple(float(value) for value in row) for row in matrix)
        return cls(_shape(shape), (z, y, x), rows)

    @classmethod
    def from_spacing(cls, shape: Sequence[int], spacing: Sequence[float]) -> "Geometry":
        """Return the geometry of an array (Z, Y, X) in canonical orientation at the origin, given its spacing (Z, Y, X) in mm.

        Raises:
            ValueError: as the class.
        """
        lengths = [float(size) for size in spacing]
        if any(size < 0 for size in lengths):  # an affine would take it as a reversed axis
            raise ValueError(
                f"spacing must be three positive lengths in mm, from {SMALLEST:g} to {LARGEST:g}, not {tuple(lengths)}"
            )
        return cls.from_affine(shape, np.diag([*reversed(lengths), 1.0]))

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Affine as a (4, 4) array."""
        return np.array(self.affine, dtype=np.float64)

    @property
    def direction(self) -> NDArray[np.float64]:
        """Unit vectors of the voxel axes x, y, z as the columns of a (3, 3) array."""
        return self.matrix[:3, :3] / column_lengths(self.matrix)

    @property
    def origin(self) -> tuple[float, float, float]:
        """Centre of the first voxel (right, anterior, superior) in mm."""
        right, anterior, superior = (float(value) for value in self.matrix[:3, 3])
        return right, anterior, superior

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in mm^3."""
        return math.prod(self.spacing)


def column_lengths(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the voxel sizes along x, y and z that an affine (4, 4) states."""
    return np.sqrt((matrix[:3, :3] ** 2).sum(axis=0))


def _shape(sizes: Sequence[int]) -> Shape:
    z, y, x = (int(size) for size in sizes)
    return z, y, x
