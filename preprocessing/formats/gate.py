"""The gate that every image passes, whoever reads it: files at planning, prediction and evaluation, and images in memory.

What a header states about itself is checked by its format (`preprocessing.formats.nifti_geometry` and others); what holds for all
images is checked here: numbers that are intensities or labels, a usable geometry, and channels on one grid.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.errors import Fault, InputError, collecting, raise_faults
from preprocessing.geometry.affine import Geometry
from preprocessing.geometry.same_grid import geometry_faults, turn_onto

_NUMBERS = "biuf"  # NumPy's kinds of booleans, integers and real numbers


@dataclass(frozen=True)
class Stored:
    """An image file, or an image in memory, as it was read."""

    where: str  # name of the file or image in messages
    voxels: NDArray  # (C, Z, Y, X) of any type
    affine: NDArray[np.float64]  # (4, 4) from voxel indices (x, y, z) to RAS+ mm


@dataclass(frozen=True)
class Admitted:
    """What passed the gate."""

    volumes: tuple[NDArray, ...]  # voxels (C, Z, Y, X) of each file in their own number type, all on one grid
    geometry: Geometry  # geometry of the first file, which is that of all

    @property
    def image(self) -> NDArray[np.float32]:
        """All channels as one image (C, Z, Y, X) float32."""
        joined = self.volumes[0] if len(self.volumes) == 1 else np.concatenate(self.volumes, dtype=np.float32, casting="unsafe")
        return np.ascontiguousarray(joined, dtype=np.float32)


def admit(stored: Sequence[Stored]) -> Admitted:
    """Check the files of one image, and bring its channels onto the first one's grid.

    A channel whose header tells a mere flip or permutation of axes is turned; no voxel value changes.

    Raises:
        InputError: a type of number is not real, a geometry is unusable, or channels lie on different grids; all faults are listed.
        ValueError: there is no file.
    """
    if not stored:
        raise ValueError("an image needs at least one file")
    faults: list[Fault] = []
    found: list[tuple[Stored, Geometry]] = []
    for one in stored:
        with collecting(faults):
            _check_numbers(one)
            found.append((one, admit_geometry(one.where, one.voxels.shape[1:], one.affine)))
    raise_faults(faults)
    reference, volumes = found[0][1], list[NDArray]()
    for one, geometry in found:
        with collecting(faults):
            volumes.append(_onto(one, geometry, reference))
    raise_faults(faults)
    return Admitted(tuple(volumes), reference)


def admit_geometry(where: str, shape: Sequence[int], affine: NDArray[np.float64]) -> Geometry:
    """Return the geometry of an array (Z, Y, X) with an affine to RAS+ mm.

    Raises:
        InputError: a spacing is not a possible length, or the axes are not at right angles.
    """
    with _naming(where):
        return Geometry.from_affine(shape, affine)


def admit_spacing(where: str, shape: Sequence[int], spacing: Sequence[float]) -> Geometry:
    """Return the geometry of an array (Z, Y, X) in canonical orientation at the origin, given its spacing (Z, Y, X) in mm.

    Raises:
        InputError: a spacing is not a possible length.
    """
    with _naming(where):
        return Geometry.from_spacing(shape, spacing)


@contextmanager
def _naming(where: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise InputError(Fault(where, f"its geometry is unusable: {error}", "Fix the header or resample the image")) from error


def _check_numbers(one: Stored) -> None:
    kind = one.voxels.dtype
    if kind.fields or kind.kind not in _NUMBERS:
        raise InputError(Fault(one.where, f"values of type {kind} are not intensities", "Store one real number per voxel"))


def _onto(one: Stored, geometry: Geometry, reference: Geometry) -> NDArray:
    faults = geometry_faults(one.where, "this channel", geometry, reference)
    turn = turn_onto(geometry, reference) if faults else None
    if faults and turn is None:
        raise InputError(*faults)
    return one.voxels if turn is None else turn.apply(one.voxels)
