"""A series of images as one file, which lists them in order. Readers take it like any other image file.

Commands write such lists into a temporary folder, hand them on, and remove them. They name files of the user and nobody else.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from configs.errors import Fault, InputError
from configs.files import Value, write_json
from preprocessing.dicom.library import NoDicomError, require_library
from preprocessing.dicom.pixels import read_frames
from preprocessing.dicom.source import DicomSource, source_of
from preprocessing.formats.format import Format
from preprocessing.geometry.affine import Affine, Geometry

ENDING = ".series"
_LETTERS = 12  # of a checksum in the name of a case
_REMEDY = "Copy the files again"
_MOST_ROWS = 65535  # DICOM keeps them in 16 bits


class ListedPlane(Value):
    """One image of a series."""

    file: str  # name of its file in the source
    frame: int = Field(default=0, ge=0)  # number of the frame in the file
    slope: float = 1.0  # units for each step of the stored values
    intercept: float = 0.0  # units of the stored value 0


class SeriesList(Value):
    """Images of a series in order, and their geometry."""

    source: str  # path to the folder, ZIP file or single file
    planes: tuple[ListedPlane, ...] = Field(min_length=1)  # images from the first to the last along Z
    rows: int = Field(ge=1, le=_MOST_ROWS)  # number of rows of each image
    columns: int = Field(ge=1, le=_MOST_ROWS)  # number of columns
    affine: Affine  # four rows of the matrix from voxel indices (x, y, z, 1) to RAS+ mm

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (Z, Y, X)."""
        return len(self.planes), self.rows, self.columns

    def write(self, path: Path) -> None:
        """Write as JSON in ASCII, atomically: names of files need not be valid Unicode."""
        write_json(path, self.model_dump())


class DicomSeries(Format):
    """A series of DICOM images by its list; read only."""

    endings = (ENDING,)
    damage = (NoDicomError,)

    def read(self, path: Path) -> tuple[NDArray, NDArray[np.float64]]:
        """Return the voxels (1, Z, Y, X) in the units of the images, and the affine."""
        require_library()
        listed = SeriesList.read(path)
        try:
            return read_voxels(listed)[None], np.array(listed.affine, dtype=np.float64)
        except NoDicomError as error:
            where = f"series `{path.name.removesuffix(ENDING)}`"
            raise InputError(Fault(where, f"its images cannot be read: {error}", _REMEDY)) from error

    def read_header(self, path: Path) -> tuple[tuple[int, ...], NDArray[np.float64]]:
        """Return the shape (1, Z, Y, X) and the affine."""
        listed = SeriesList.read(path)
        return (1, *listed.shape), np.array(listed.affine, dtype=np.float64)

    def doubts(self, path: Path) -> tuple[str, ...]:
        """Return what the header leaves open."""
        is_single = len(SeriesList.read(path).planes) == 1
        return ("it has one image, whose thickness is taken from its header",) if is_single else ()

    def write(self, path: Path, array: NDArray, geometry: Geometry, like: Path | None) -> None:
        """Refuse: images are written in other formats."""
        raise InputError(Fault(str(path), f"images cannot be written as {ENDING}", "Choose another ending, such as .nii.gz"))


def read_voxels(listed: SeriesList) -> NDArray:
    """Return the voxels (Z, Y, X) in their units: int16 or int32 where all are whole numbers, float32 otherwise.

    Raises:
        NoDicomError: a file does not hold the images that the list names.
    """
    source, kind = source_of(Path(listed.source)), _number_type(listed.planes)
    voxels: NDArray | None = None
    for file, group in groupby(sorted(enumerate(listed.planes), key=_by_file), key=lambda each: each[1].file):
        wanted = list(group)
        frames = read_frames(source.content(file), (listed.rows, listed.columns), [plane.frame for _, plane in wanted])
        for (index, plane), frame in zip(wanted, frames, strict=True):
            voxels = np.empty(listed.shape, dtype=kind) if voxels is None else voxels  # once a file has proved the size
            voxels[index] = _rescaled(frame, plane, kind)
    if voxels is None:
        raise NoDicomError("it has no images")
    fits = voxels.dtype == np.int32 and np.iinfo(np.int16).min <= voxels.min() and voxels.max() <= np.iinfo(np.int16).max
    return voxels.astype(np.int16) if fits else voxels


def _rescaled(stored: NDArray, plane: ListedPlane, kind: np.dtype) -> NDArray:
    """Stored values times the slope, plus the intercept (PS3.3 C.11.1.1.2), computed in float64."""
    values = stored.astype(np.float64) * plane.slope + plane.intercept
    if not np.abs(values).max() < 2**31:
        raise NoDicomError(f"values up to {np.abs(values).max():.3g} do not fit 32 bits")
    return values.astype(kind)


def _number_type(planes: Sequence[ListedPlane]) -> np.dtype:
    """Type for whole numbers where the units are whole, as of CT, or for real ones."""
    numbers = [number for plane in planes for number in (plane.slope, plane.intercept)]
    return np.dtype(np.int32 if all(number == math.floor(number) for number in numbers) else np.float32)


def _by_file(numbered: tuple[int, ListedPlane]) -> tuple[str, int]:
    return numbered[1].file, numbered[1].frame


def sources_of(listed: SeriesList) -> Iterator[bytes]:
    """Yield the bytes of each file of a series once, in the order of its images."""
    source: DicomSource = source_of(Path(listed.source))
    for file in dict.fromkeys(plane.file for plane in listed.planes):
        yield source.content(file)


def case_name(series: str) -> str:
    """Return the name of a case for the identifier of its series. It is always the same, and tells nothing about the patient."""
    return f"series_{hashlib.sha256(series.encode()).hexdigest()[:_LETTERS]}"
