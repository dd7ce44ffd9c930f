"""Whether two images lie on one grid, within tolerances that stand here alone."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from configs.errors import Fault, raise_faults
from preprocessing.geometry.affine import Geometry
from preprocessing.geometry.orientation import TURNS, Turn, nearest_turn

SPACING_TOLERANCE = 1e-3  # relative difference
ORIGIN_TOLERANCE = 0.1  # voxels
DIRECTION_TOLERANCE = 1e-3  # difference of unit vectors
_REMEDY = "Copy the image's header to it if the voxels match, otherwise resample it"


def geometry_faults(where: str, what: str, geometry: Geometry, reference: Geometry) -> list[Fault]:
    """Return a fault for each difference in shape, spacing, origin and direction between the file `what` and the reference."""
    if geometry.shape != reference.shape:
        problem = f"{what} has the shape {geometry.shape} and the image {reference.shape} (Z, Y, X)"
        return [Fault(where, problem, "Resample it to the image's grid")]
    faults = []
    if not is_same_spacing(geometry.spacing, reference.spacing):
        problem = (
            f"{what} has the spacing {in_words(geometry.spacing)} mm and the image {in_words(reference.spacing)} mm (Z, Y, X)"
        )
        faults.append(Fault(where, problem, _REMEDY))
    if not is_same_place(geometry.origin, reference.origin, min(reference.spacing)):
        problem = f"{what} has the origin {in_words(geometry.origin)} mm and the image {in_words(reference.origin)} mm (R, A, S)"
        faults.append(Fault(where, problem, _REMEDY))
    if not is_same_direction(geometry.direction, reference.direction):
        turned, expected = axes_in_words(geometry.direction), axes_in_words(reference.direction)
        problem = f"{what} has the directions {turned} and the image {expected} (axes x; y; z)"
        faults.append(Fault(where, problem, _REMEDY))
    return faults


def require_same_grid(where: str, what: str, geometry: Geometry, reference: Geometry) -> None:
    """Raise `InputError` with every difference between the grids of the file `what` and of the reference."""
    raise_faults(geometry_faults(where, what, geometry, reference))


def turn_onto(geometry: Geometry, reference: Geometry) -> Turn | None:
    """Return the permutation and flips of axes that bring an image onto the reference's grid, or None where no turn does."""
    turn = nearest_turn(geometry, reference.direction.T, TURNS)
    return None if geometry_faults("", "", turn.apply_geometry(geometry), reference) else turn


def is_same_spacing(spacing: ArrayLike, reference: ArrayLike) -> bool:
    """Return whether two spacings agree within the tolerance."""
    return bool(np.allclose(spacing, reference, rtol=SPACING_TOLERANCE, atol=0))


def is_same_place(origin: ArrayLike, reference: ArrayLike, finest: float) -> bool:
    """Return whether two origins agree within the tolerance; `finest` is the smallest spacing, all in mm."""
    return bool(np.abs(np.subtract(origin, reference)).max() <= ORIGIN_TOLERANCE * finest)


def is_same_direction(direction: NDArray[np.float64], reference: NDArray[np.float64]) -> bool:
    """Return whether the columns of two direction matrices (3, 3) agree within the tolerance."""
    return bool(np.abs(direction - reference).max() <= DIRECTION_TOLERANCE)


def axes_in_words(direction: NDArray[np.float64]) -> str:
    """Return the columns of a direction matrix (3, 3) for a message."""
    return "; ".join(in_words(axis.round(4) + 0.0) for axis in direction.T)


def in_words(numbers: ArrayLike) -> str:
    """Return numbers such as `0.5 x 0.5 x 3` for a message."""
    return " x ".join(f"{float(number):.4g}" for number in np.ravel(numbers))
