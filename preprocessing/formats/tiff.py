"""TIFF stacks through tifffile, with their spacing in a JSON file beside them, as in nnU-Net.

The file `case.json` beside `case_0000.tif` (and beside the label file `case.tif`) holds {"spacing": [Z, Y, X]} in mm. TIFF has no origin
and no direction: images are taken to lie at the origin in canonical orientation.
"""

import re
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from configs.errors import Fault, InputError
from configs.files import read_json, replacing, write_json
from preprocessing.formats.format import Format
from preprocessing.formats.gate import admit_spacing
from preprocessing.formats.size_checks import MOST_DEFLATED, check_size
from preprocessing.geometry.affine import Geometry

# Axes that a file states by tifffile's letters and that are not those of a volume; Z is depth, Q and I are not stated.
_NOT_SPACE = {"S": "colours (S)", "C": "channels (C)", "T": "times (T)"}
_AXES_REMEDY = (
    "Store one volume (Z, Y, X) for each channel, by tifffile with photometric='minisblack' and metadata={'axes': 'ZYX'}; "
    "in ImageJ, slices can be exchanged with channels or frames under Properties"
)
_ORDERS = {b"II": "little", b"MM": "big"}
_CHANNEL = re.compile(r"_\d{4}$")
_REMEDY = 'Write {"spacing": [Z, Y, X]} there, mm between voxels along each axis of the array'


class Tiff(Format):
    """TIFF stacks of one channel."""

    endings = (".tif", ".tiff")
    damage = (AssertionError, tifffile.TiffFileError)  # the second is a ValueError in newer versions

    def read(self, path: Path) -> tuple[NDArray, NDArray[np.float64]]:
        """Return the voxels (1, Z, Y, X) and the affine."""
        _check_directories(path)
        with tifffile.TiffFile(path) as file:
            shape = _shape(path, file)
            try:
                data = file.series[0].asarray()
            except ValueError as error:
                if "imagecodecs" not in str(error):
                    raise
                data = _read_rare(path, shape)
        return data[None], admit_spacing(str(path), shape, _read_spacing(path)).matrix

    def read_header(self, path: Path) -> tuple[tuple[int, ...], NDArray[np.float64]]:
        """Return the shape (1, Z, Y, X) and the affine."""
        _check_directories(path)
        with tifffile.TiffFile(path) as file:
            shape = _shape(path, file)
        return (1, *shape), admit_spacing(str(path), shape, _read_spacing(path)).matrix

    def write(self, path: Path, array: NDArray, geometry: Geometry, like: Path | None) -> None:
        """Write an array (Z, Y, X), and before it the file with its spacing, without which it is not usable."""
        spacing = geometry.spacing if like is None else _read_spacing(like)
        write_json(path.with_name(f"{path.stem}.json"), {"spacing": list(spacing)})
        with replacing(path) as temporary:
            tifffile.imwrite(temporary, array, compression="zlib", photometric="minisblack")

    def companions(self, path: Path) -> tuple[Path, ...]:
        """Return the file with the spacing, where there is one."""
        beside = _sidecar(path)
        return () if beside is None else (beside,)


def _read_spacing(path: Path) -> tuple[float, float, float]:
    """The spacing (Z, Y, X) in mm from the JSON file beside a TIFF file."""
    beside = _sidecar(path)
    if beside is None:
        expected = path.with_name(f"{_CHANNEL.sub('', path.stem)}.json")
        raise InputError(Fault(str(path), f"its spacing is not known: there is no {expected.name} beside it", _REMEDY))
    content = read_json(beside)
    spacing = content.get("spacing") if isinstance(content, dict) else None
    if not isinstance(spacing, list) or len(spacing) != 3 or not all(_is_number(size) for size in spacing):
        raise InputError(Fault(str(beside), f"`spacing` must be three positive lengths, not {spacing}", _REMEDY))
    return float(spacing[0]), float(spacing[1]), float(spacing[2])


def _read_rare(path: Path, shape: tuple[int, ...]) -> NDArray:
    """A stack with a compression, such as LZW, that tifffile reads only with a further package, and SimpleITK reads by itself."""
    import SimpleITK

    data: NDArray = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    if data.shape != shape:
        raise ValueError(f"it is read as {data.shape}, but holds {shape} voxels")
    return data


def _shape(path: Path, file: tifffile.TiffFile) -> tuple[int, ...]:
    if not file.series:
        raise ValueError("it holds no image")
    series = file.series[0]
    shape = tuple(int(size) for size in series.shape)
    stated = [word for axis, word in _NOT_SPACE.items() if axis in series.axes]
    if stated:
        problem = f"its axes are {series.axes} with the shape {shape}: {' and '.join(stated)} instead of a volume"
        raise InputError(Fault(str(path), problem, _AXES_REMEDY))
    if len(shape) != 3:
        raise InputError(Fault(str(path), f"its shape is {shape}", "Three axes (Z, Y, X) are needed, one file for each channel"))
    packed = file.pages.first.compression != tifffile.COMPRESSION.NONE
    check_size(path, shape, int(series.nbytes), path.stat().st_size * (MOST_DEFLATED if packed else 1))
    return shape


def _sidecar(path: Path) -> Path | None:
    stems = dict.fromkeys((path.stem, _CHANNEL.sub("", path.stem)))
    return next((beside for stem in stems if (beside := path.with_name(f"{stem}.json")).is_file()), None)


def _is_number(size: object) -> bool:
    return isinstance(size, int | float) and not isinstance(size, bool)


def _check_directories(path: Path) -> None:
    """Raise a `ValueError` where directories form a circle, overlap, or lie outside of the file, or the file is not TIFF."""
    size = path.stat().st_size
    with path.open("rb") as file:
        order = _ORDERS.get(file.read(2))
        if order is None:
            raise ValueError("it does not begin as a TIFF file")
        version = _number(file, 2, order)
        if version not in (42, 43):
            raise ValueError(f"it is of the unknown TIFF version {version}")
        is_big = version == 43
        _follow(file, 16 if is_big else 8, size, is_big, order)


def _follow(file: BinaryIO, head: int, size: int, is_big: bool, order: str) -> None:
    """Check each directory, from the first one, whose place ends the head of the file, to the last."""
    width, entry_bytes, number_bytes = (8, 20, 8) if is_big else (4, 12, 2)
    file.seek(head - width)
    place, taken = _number(file, width, order), 0
    while place:
        file.seek(place)
        length = number_bytes + _number(file, number_bytes, order) * entry_bytes + width
        taken += length
        if place + length > size + width:  # some writers leave the last place out
            raise ValueError(f"a directory of {length} bytes at {place} lies outside of its {size} bytes")
        if taken > size:
            raise ValueError(f"its directories form a circle: they take more than its {size} bytes")
        file.seek(place + length - width)
        place = _number(file, width, order)


def _number(file: BinaryIO, width: int, order: str) -> int:
    return int.from_bytes(file.read(width), "little" if order == "little" else "big")
