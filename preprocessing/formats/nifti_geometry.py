"""What a NIfTI header states about the grid: units, and up to three spacings and two directions, which must agree.

`pixdim` holds the spacing, `qform` a rotation and `sform` a whole affine; a code of 0 says that a form is not given
(https://nifti.nimh.nih.gov/nifti-1/documentation/nifti1fields). Where they differ, nibabel follows the sform, and ITK `pixdim` and mostly
the qform: such a file has no one geometry. Two forms with different codes name two spaces, as after a registration, and may differ by
a small rotation and shift; the sform is followed, and the difference is told.
"""

from typing import Any

import nibabel as nib
import numpy as np
from nibabel.quaternions import quat2mat
from numpy.typing import ArrayLike, NDArray

from configs.errors import Fault, InputError, raise_faults
from preprocessing.geometry.affine import Geometry, column_lengths
from preprocessing.geometry.same_grid import (
    DIRECTION_TOLERANCE,
    SPACING_TOLERANCE,
    axes_in_words,
    in_words,
    is_same_direction,
    is_same_place,
)

Header = Any  # nibabel's Nifti1Header or Nifti2Header
_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # mm in the unit of each code: unknown, metre, millimetre, micrometre
_NO_SHIFT = 0.05  # voxels by which rounding may place the ends of an axis apart
_SHORTEST = 10  # voxels that every axis is taken to have for this, so that rounding is never above 0.5 %
_NOT_A_ROTATION = 1e-3  # excess of a quaternion's norm that rounding can explain
_REMEDY = (
    "Find out which one is right and copy it to the other: in nibabel, image.set_qform(image.get_sform()) keeps the sform, "
    "and image.set_sform(image.get_qform()) the pixdim and qform"
)


def affine_in_mm(where: str, header: Header, affine: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Return the affine (4, 4) from voxel indices (x, y, z) to RAS+ mm that a header states.

    Args:
        where: name of the file or image in messages.
        header: header as stored, or as nibabel mended it.
        affine: the same affine in the header's unit at a higher precision than the header's; None takes the header's.

    Raises:
        InputError: pixdim is not positive; pixdim, qform and sform contradict each other beyond the tolerances of
            `preprocessing.geometry.same_grid`; the unit is unknown, or the quaternion not a rotation.
        ValueError: nibabel cannot make an affine of the header.
    """
    check_lengths(where, "pixdim", header["pixdim"][1:4])
    code = int(header["xyzt_units"]) % 8
    if code not in _MM:
        remedy = "Set it to 2 for mm or 3 for micrometres, as in nibabel's image.header.set_xyzt_units('mm')"
        raise InputError(Fault(where, f"its xyzt_units states the unknown unit {code} of length", remedy))
    affine = np.asarray(header.get_best_affine() if affine is None else affine, dtype=np.float64)
    if _is_usable(affine):
        raise_faults(_contradictions(where, header))
    return np.diag([_MM[code]] * 3 + [1.0]) @ affine if _MM[code] != 1 else affine


def check_lengths(where: str, field: str, spacing: ArrayLike) -> None:
    """Refuse spacings (x, y, z) in a field of a header that are not positive, which libraries replace by 1 or take as reversed axes.

    Raises:
        InputError: a spacing is 0, negative or not finite.
    """
    sizes = np.asarray(spacing, dtype=np.float64)
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        problem = f"its geometry is unusable: {field} states the spacing {in_words(sizes)} (x, y, z)"
        raise InputError(Fault(where, problem, "Fix the header: each spacing must be a positive length"))


def header_in_memory(image: nib.Nifti1Pair) -> Header:
    """Return the header that nibabel would write for an image in memory, where a changed affine replaces both forms."""
    header = image.header.copy()
    if image.affine is not None and not np.allclose(image.affine, header.get_best_affine()):
        header.set_sform(image.affine, code="aligned")
        header.set_qform(image.affine, code="unknown")
    return header


def two_places(header: Header) -> str | None:
    """Return in words how far sform and qform place an image apart where they may differ, or None where they agree."""
    if header["sform_code"] == 0 or header["qform_code"] == 0:
        return None
    sform, turned = np.asarray(header.get_sform(), dtype=np.float64), _qform_direction(header)
    origin = [float(header[f"qoffset_{axis}"]) for axis in "xyz"]
    if is_same_direction(_nearest_rotation(sform), turned) and is_same_place(sform[:3, 3], origin, min(header["pixdim"][1:4])):
        return None
    return (
        f"its sform (code {int(header['sform_code'])}) has the origin {in_words(sform[:3, 3])} and the directions "
        f"{axes_in_words(_nearest_rotation(sform))}, its qform (code {int(header['qform_code'])}) {in_words(origin)} and "
        f"{axes_in_words(turned)}; the sform is used"
    )


def _is_usable(affine: NDArray[np.float64]) -> bool:
    """Whether an affine has axes at right angles of some length; the gate refuses others and says why."""
    with np.errstate(all="ignore"):
        unit = affine / np.append(column_lengths(affine), 1)
    try:
        Geometry.from_affine((1, 1, 1), unit)
    except ValueError:
        return False
    return True


def _contradictions(where: str, header: Header) -> list[Fault]:
    if header["sform_code"] == 0:
        return []
    faults = []
    sform, pixdim = np.asarray(header.get_sform(), dtype=np.float64), header["pixdim"][1:4].astype(np.float64)
    spacing = column_lengths(sform)
    if not _is_rounding(np.abs(spacing / pixdim - 1), SPACING_TOLERANCE, header):
        problem = f"its sform states the spacing {in_words(spacing)} and its pixdim {in_words(pixdim)} (x, y, z)"
        faults.append(Fault(where, problem, _REMEDY))
    if header["qform_code"] != 0:
        faults += _opposed(where, _nearest_rotation(sform), header)
    return faults


def _is_rounding(difference: NDArray[np.float64], tolerance: float, header: Header) -> bool:
    """Whether relative differences of the axes x, y, z are within the tolerance, or place the last voxel of each axis alike."""
    voxels = np.maximum(header.get_data_shape()[:3], _SHORTEST)
    return bool(((difference <= tolerance) | (difference * voxels <= _NO_SHIFT)).all())


def _opposed(where: str, direction: NDArray[np.float64], header: Header) -> list[Fault]:
    """A fault where the qform's directions differ from the sform's in one and the same space, or name other axes of the body."""
    turned = _qform_direction(header)
    if not np.isfinite(turned).all():
        quaternion = in_words([header[f"quatern_{part}"] for part in "bcd"])
        return [Fault(where, f"its qform states the quaternion {quaternion}, which is not a rotation", _REMEDY)]
    if _is_rounding(np.abs(direction - turned).max(axis=0), DIRECTION_TOLERANCE, header):
        return []
    if header["sform_code"] != header["qform_code"] and _nearest_axes(direction) == _nearest_axes(turned):
        return []  # two spaces; `two_places` tells of them
    problem = f"its sform has the directions {axes_in_words(direction)} and its qform {axes_in_words(turned)} (axes x; y; z)"
    return [Fault(where, problem, _REMEDY)]


def _qform_direction(header: Header) -> NDArray[np.float64]:
    """The unit vectors of the qform as columns; NaN where its quaternion is not a rotation."""
    b, c, d = (float(header[f"quatern_{part}"]) for part in "bcd")
    rest = 1 - (b * b + c * c + d * d)
    if not rest >= -_NOT_A_ROTATION:
        return np.full((3, 3), np.nan)
    turned: NDArray[np.float64] = quat2mat([np.sqrt(max(0.0, rest)), b, c, d])
    return turned * (1, 1, -1 if header["pixdim"][0] < 0 else 1)


def _nearest_rotation(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The orthonormal matrix nearest to an affine's directions, since a qform cannot hold the slight shear that an sform may have."""
    left, _, right = np.linalg.svd(affine[:3, :3] / column_lengths(affine))
    nearest: NDArray[np.float64] = left @ right
    return nearest


def _nearest_axes(direction: NDArray[np.float64]) -> tuple[str, ...]:
    matrix = np.eye(4)
    matrix[:3, :3] = direction
    return tuple(nib.aff2axcodes(matrix))
