"""Image files to arrays and back, in any registered format.

Arrays are as stored, with the axes reversed to (Z, Y, X): nothing is reoriented here.
"""

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.errors import DAMAGE, Fault, InputError, collecting, fault_of, raise_faults
from preprocessing.formats.format import Format, Use
from preprocessing.formats.gate import Stored, admit, admit_geometry
from preprocessing.formats.registry import format_of
from preprocessing.geometry.affine import Geometry

DOUBT_REMEDY = "Check that this is intended"
_LABEL_TYPES = (np.uint8, np.int16, np.int32)


def read_image(paths: Sequence[Path]) -> tuple[NDArray[np.float32], Geometry]:
    """Read the channels of one image: a file for each, or one file with several volumes.

    Returns:
        The image (C, Z, Y, X) float32 and the geometry of its first file.

    Raises:
        InputError: files cannot be read, contradict themselves, or lie on different grids; all faults are listed.
        ValueError: there is no file.
    """
    faults: list[Fault] = []
    stored: list[Stored] = []
    for path in paths:
        with collecting(faults):
            _check_use(path, "image")
            stored.append(_read(path))
    if not faults:
        admitted = admit(stored)
        return admitted.image, admitted.geometry
    with collecting(faults):
        if stored:
            admit(stored)  # for the faults of the others
    raise InputError(*faults)


def read_labels(path: Path) -> tuple[NDArray[np.integer], Geometry]:
    """Read a label file.

    Returns:
        Label values (Z, Y, X) of an integer type, and the geometry.

    Raises:
        InputError: the file cannot be read, has several volumes, or holds values that are not whole numbers, or its compression
            changes values.
    """
    _check_use(path, "labels")
    volumes, geometry = read_volumes(path)
    if len(volumes) != 1:
        raise InputError(
            Fault(str(path), f"a label file must hold one volume, not {len(volumes)}", "Store one label value per voxel")
        )
    labels = volumes[0]
    if np.issubdtype(labels.dtype, np.integer):
        return np.ascontiguousarray(labels), geometry
    with np.errstate(invalid="ignore"):  # NaN is caught by the comparison
        whole = labels.astype(np.int32)
    if not np.array_equal(whole, labels):
        raise InputError(_not_whole(path))
    return np.ascontiguousarray(whole), geometry


def read_volumes(path: Path) -> tuple[NDArray, Geometry]:
    """Read one file: its voxels (C, Z, Y, X) in their own number type, and its geometry.

    Raises:
        InputError: the file is missing, damaged, of an unknown format, or not a three-dimensional image.
    """
    admitted = admit([_read(path)])
    return admitted.volumes[0], admitted.geometry


def read_header(path: Path) -> tuple[int, Geometry]:
    """Return the number of channels and the geometry in a file's header, without loading voxels.

    Raises:
        InputError: the file is missing, damaged, or of an unknown format.
    """
    with _opened(path) as used:
        (channels, *shape), affine = used.read_header(path)
    return channels, admit_geometry(str(path), shape, affine)


def doubts(paths: Sequence[Path]) -> list[Fault]:
    """Return a warning for each thing that an image's readable files leave open, though they are used: headers, a file given twice."""
    repeated = [
        Fault(
            str(path), "the same file is given for several channels", "Give each channel its own file, if that was not intended"
        )
        for path, times in Counter(path.resolve() for path in paths).items()
        if times > 1
    ]
    return repeated + [Fault(str(path), doubt, DOUBT_REMEDY) for path in paths for doubt in format_of(path).doubts(path)]


def companions(path: Path) -> tuple[Path, ...]:
    """Return the further files of an image: the voxels of a detached header, or the spacing beside a TIFF stack."""
    return format_of(path).companions(path)


def write_labels(path: Path, labels: NDArray[np.integer], geometry: Geometry, like: Path | None = None) -> None:
    """Write label values as the smallest of uint8, int16 and int32 that holds them. The file is written whole or not at all.

    Args:
        path: path to the new file; its ending chooses the format.
        labels: label values (Z, Y, X).
        geometry: geometry of the labels.
        like: image with the same geometry. If it is of the same format, its affine is kept to the bit (for NIfTI: sform, qform
            and their codes).

    Raises:
        InputError: no format has this ending.
        ValueError: the labels do not fit the geometry or any integer type.
    """
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    fitting = [kind for kind in _LABEL_TYPES if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max]
    if not fitting:
        raise ValueError(f"label values from {low} to {high} do not fit a 32-bit integer")
    _write(path, labels.astype(fitting[0]), geometry, like)


def write_scalar(path: Path, volume: NDArray[np.float32], geometry: Geometry, like: Path | None = None) -> None:
    """Write one number per voxel as float32. Arguments and errors are those of `write_labels`."""
    _write(path, volume.astype(np.float32), geometry, like)


def _write(path: Path, array: NDArray, geometry: Geometry, like: Path | None) -> None:
    if array.shape != geometry.shape:
        raise ValueError(f"an array of shape {array.shape} does not fit the grid {geometry.shape}")
    used = format_of(path)
    used.write(path, array, geometry, like if like is not None and format_of(like) is used else None)


@contextmanager
def _opened(path: Path) -> Iterator[Format]:
    """The format of a file; whatever it raises in the block becomes an `InputError` that names the file."""
    if not path.is_file():
        problem = "not a regular file" if path.exists() else "the file does not exist"
        raise InputError(Fault(str(path), problem, "Check the path"))
    used = format_of(path)
    damage: tuple[type[Exception], ...] = (zlib.error, *DAMAGE, *used.damage)
    try:
        with np.errstate(all="ignore"):  # nonsense in a header is found in the result
            yield used
    except InputError:
        raise
    except damage as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        remedy = "It may be truncated or damaged: copy it again"
        raise InputError(fault_of(error, str(path), f"the file cannot be read ({reason})", remedy)) from error


def _check_use(path: Path, use: Use) -> None:
    with _opened(path) as used:
        raise_faults(used.unfit(path, use))


def _read(path: Path) -> Stored:
    with _opened(path) as used:
        return Stored(str(path), *used.read(path))


def _not_whole(path: Path) -> Fault:
    scaling = format_of(path).scaling(path)
    if scaling is None:
        remedy = "Save the labels without interpolation, as an integer type"
        return Fault(str(path), "label values must be whole numbers", remedy)
    problem = f"label values must be whole numbers, but the header scales them: {scaling}"
    return Fault(str(path), problem, "Save the labels as an integer type with a slope of 1 and an intercept of 0")
