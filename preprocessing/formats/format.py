"""What an image format provides."""

from abc import abstractmethod
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from configs.errors import Fault
from preprocessing.geometry.affine import Geometry

Use = Literal["image", "labels"]


@runtime_checkable
class Format(Protocol):
    """Read and write image files of some endings. A user's own format derives from this class (docs/how_to/extend.md).

    Arrays have the axes of the file reversed to (Z, Y, X) and are not reoriented. Affines are NIfTI's: (4, 4), from voxel indices
    (x, y, z) to RAS+ mm. Errors of type `InputError`, `configs.errors.DAMAGE` or `damage` become faults that name the file.

    Attributes:
        endings: file endings in lower case, with the leading dot.
        damage: further exceptions that the format's library raises for damaged files.
    """

    endings: tuple[str, ...]
    damage: tuple[type[Exception], ...] = ()

    @abstractmethod
    def read(self, path: Path) -> tuple[NDArray, NDArray[np.float64]]:
        """Return the voxels (C, Z, Y, X) in the file's own number type, and the affine."""

    @abstractmethod
    def read_header(self, path: Path) -> tuple[tuple[int, ...], NDArray[np.float64]]:
        """Return the shape (C, Z, Y, X) and the affine without loading voxels."""

    @abstractmethod
    def write(self, path: Path, array: NDArray, geometry: Geometry, like: Path | None) -> None:
        """Write an array (Z, Y, X) whole or not at all (`configs.files.replacing`).

        Args:
            path: path to the new file.
            array: labels of an integer type, or float32 values.
            geometry: geometry of the array.
            like: file of this format with the same geometry, which is kept to the bit; None writes `geometry`.
        """

    def doubts(self, path: Path) -> tuple[str, ...]:
        """Return what the header leaves open, though the file is used, such as two positions; each is a clause for a warning."""
        del path
        return ()

    def scaling(self, path: Path) -> str | None:
        """Return in words how the header scales the stored values, or None where it does not."""
        del path
        return None

    def companions(self, path: Path) -> tuple[Path, ...]:
        """Return the existing further files that the image consists of."""
        del path
        return ()

    def unfit(self, path: Path, use: Use) -> tuple[Fault, ...]:
        """Return why the file must not serve as an image, or as labels, though it can be read."""
        del path, use
        return ()
