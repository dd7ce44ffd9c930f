"""Put the images of a series into one order along their normal, and find their common affine.

PS3.3 C.7.6.2.1.1: the pixel of column i and row j lies at P = S + X dx i + Y dy j, where S is ImagePositionPatient, X and Y are the two
directions of ImageOrientationPatient, and dy, dx the two numbers of PixelSpacing. Positions are in mm (left, posterior, superior).
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.errors import Fault, counted, listed, raise_faults
from preprocessing.dicom.header import Plane
from preprocessing.geometry.same_grid import DIRECTION_TOLERANCE, ORIGIN_TOLERANCE

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
MOST_TILT = 0.3  # degrees between the normal of the slices and the line through them
_SAME_PLACE = 1e-3  # mm along the normal below which two images lie at one place
_MOST_NAMED = 3  # places in a message


@dataclass(frozen=True)
class Stack:
    """Images in one order, and where they lie."""

    order: tuple[int, ...]  # indices of the images, along the normal of their plane
    affine: NDArray[np.float64]  # (4, 4) from voxel indices (x, y, z) to RAS+ mm


def stack(where: str, planes: Sequence[Plane]) -> Stack:
    """Order images that have a position, an orientation and a spacing, and all look the same way.

    Raises:
        InputError: images are missing, repeated, unevenly spaced or displaced sideways; all faults are listed.
    """
    positions = np.array([plane.position for plane in planes], dtype=np.float64)
    across, down, normal = axes(planes[0])
    depths = positions @ normal
    order = np.argsort(depths, kind="stable")
    raise_faults(_repeated(where, [planes[index] for index in order], depths[order]))
    raise_faults([*_uneven(where, depths[order]), *_displaced(where, positions[order], normal)])
    step = _step(where, planes[0], positions[order], normal)
    rows, columns = planes[0].spacing or (0.0, 0.0)
    affine = np.eye(4)
    affine[:3] = np.column_stack([across * columns, down * rows, step, positions[order[0]]])
    return Stack(tuple(int(index) for index in order), TO_RAS @ affine)


def axes(plane: Plane) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the unit vectors of increasing column index and row index, and their normal, each (3,)."""
    across, down = np.reshape(np.array(plane.orientation, dtype=np.float64), (2, 3))
    across, down = across / np.linalg.norm(across), down / np.linalg.norm(down)
    normal = np.cross(across, down)
    return across, down, normal / np.linalg.norm(normal)


def is_orientation(numbers: Sequence[float]) -> bool:
    """Return whether six numbers are two unit vectors at a right angle."""
    directions = np.reshape(np.array(numbers, dtype=np.float64), (2, 3))
    return bool(np.abs(directions @ directions.T - np.eye(2)).max() <= 10 * DIRECTION_TOLERANCE)


def _step(where: str, plane: Plane, positions: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """The vector (3,) from one image to the next."""
    if len(positions) > 1:
        return np.asarray((positions[-1] - positions[0]) / (len(positions) - 1))
    if not plane.thickness:
        problem = "it has one image, and neither SliceThickness nor SpacingBetweenSlices says how far it reaches"
        raise_faults([Fault(where, problem, "Give the whole series")])
    return normal * (plane.thickness or 0.0)


def _repeated(where: str, planes: Sequence[Plane], depths: NDArray[np.float64]) -> Iterator[Fault]:
    places = np.cumsum(np.append(False, np.diff(depths) > _SAME_PLACE))
    times = Counter(int(place) for place in places)
    most = max(times.values())
    if most == 1:
        return
    marks = [dict(plane.marks) for plane in planes]
    keys = dict.fromkeys(key for one in marks for key in one)
    differing = [key for key in keys if len({one.get(key) for one in marks}) > 1]
    if min(times.values()) == most and differing:
        problem = (
            f"it holds {most} acquisitions at each of {counted(len(times), 'place')}, which differ in {', '.join(differing)}"
        )
        yield Fault(where, problem, "Export each acquisition as a series of its own")
        return
    twice = [float(depths[list(places).index(place)]) for place, count in times.items() if count > 1]
    problem = f"slices are repeated: {len(twice)} of {len(times)} places have several images, at {_named(twice)} along the normal"
    yield Fault(where, problem, "Remove the copies, or export the series again")


def _uneven(where: str, depths: NDArray[np.float64]) -> Iterator[Fault]:
    """Gaps that are a multiple of the usual one miss slices; other gaps, or places off an even grid, are uneven."""
    gaps = np.diff(depths)
    if len(gaps) < 2:
        return
    usual = float(np.median(gaps))
    steps = np.round(gaps / usual)
    missing = (steps >= 2) & (np.abs(gaps - steps * usual) <= ORIGIN_TOLERANCE * usual)
    if missing.any():
        number = int((steps[missing] - 1).sum())
        after = [float(depth) for depth in depths[:-1][missing]]
        problem = f"slices are missing: {number} after {_named(after)} along the normal, where the spacing is {usual:.4g} mm"
        yield Fault(where, problem, "Export the whole series again")
    even = np.linspace(depths[0], depths[-1], len(depths))
    worst = float(np.abs(depths - even).max()) / usual
    if not missing.any() and worst > ORIGIN_TOLERANCE:
        problem = (
            f"its slices are unevenly spaced, from {gaps.min():.4g} to {gaps.max():.4g} mm; they lie up to {worst:.2g} spacings"
        )
        yield Fault(where, f"{problem} off an even grid, and {ORIGIN_TOLERANCE:g} are allowed", "Resample it to an even spacing")


def _displaced(where: str, positions: NDArray[np.float64], normal: NDArray[np.float64]) -> Iterator[Fault]:
    """Slices whose first pixels do not lie above each other: a tilted gantry, or a table that moved."""
    if len(positions) < 2:
        return
    offsets = positions - positions[0]
    depths = offsets @ normal
    sideways = np.linalg.norm(offsets - np.outer(depths, normal), axis=1)
    tilt = math.degrees(math.atan2(float(sideways[-1]), float(depths[-1])))
    line = np.outer(depths / depths[-1], offsets[-1])
    off_line = float(np.linalg.norm(offsets - line, axis=1).max())
    allowed = ORIGIN_TOLERANCE * float(depths[-1]) / (len(positions) - 1)
    if tilt > MOST_TILT:
        problem = f"the gantry was tilted: its slices are sheared by {tilt:.2f} degrees, and {MOST_TILT} are allowed"
        yield Fault(where, problem, "Correct the tilt by resampling, for example with dcm2niix, and segment the result")
    elif off_line > allowed:
        problem = f"its slices are displaced sideways by up to {off_line:.3g} mm, and {allowed:.2g} mm are allowed"
        yield Fault(where, problem, "Export the parts of the series that lie on one line")


def _named(depths: Sequence[float]) -> str:
    return listed((f"{depth:.4g} mm" for depth in depths), _MOST_NAMED)
