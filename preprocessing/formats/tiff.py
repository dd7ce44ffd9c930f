"""TIFF stacks and pictures through tifffile, with their spacing in a JSON file beside them (`preprocessing.formats.spacing_beside`).

TIFF has no origin and no direction: stacks are taken to lie at the origin in canonical orientation, and single slices as pictures do.
Colours become channels. A single slice without a file beside it has pixels of 1 mm.
"""

from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from configs.errors import Fault, InputError
from configs.files import replacing
from preprocessing.formats.format import Format, Use
from preprocessing.formats.gate import admit_spacing
from preprocessing.formats.pictures.colours import COLOURS, lossy_fault, palette_fault, turned_fault, upright, without_alpha
from preprocessing.formats.size_checks import MOST_DEFLATED, check_size
from preprocessing.formats.spacing_beside import read_spacing, spacing_file, write_spacing
from preprocessing.geometry.affine import Geometry

# Axes that a file states by tifffile's letters and that are neither those of a volume nor colours; Z is depth, Q and I are not stated.
_NOT_SPACE = {"C": "channels (C)", "T": "times (T)"}
_AXES_REMEDY = (
    "Store one volume (Z, Y, X) for each channel, by tifffile with photometric='minisblack' and metadata={'axes': 'ZYX'}; "
    "in ImageJ, slices can be exchanged with channels or frames under Properties"
)
_ORDERS = {b"II": "little", b"MM": "big"}
_JPEG = (tifffile.COMPRESSION.OJPEG, tifffile.COMPRESSION.JPEG)
_ORIENTATION = 274  # tag
_PIXEL = (1.0, 1.0, 1.0)  # mm (Z, Y, X) of a single slice where nothing else is stated


class Tiff(Format):
    """TIFF stacks and single slices of one channel, or of colours."""

    endings = (".tif", ".tiff")
    damage = (AssertionError, tifffile.TiffFileError)  # the second is a ValueError in newer versions

    def read(self, path: Path) -> tuple[NDArray, NDArray[np.float64]]:
        """Return the voxels (C, Z, Y, X) and the affine."""
        _check_directories(path)
        with tifffile.TiffFile(path) as file:
            shape = _shape(path, file)
            series = file.series[0]
            try:
                data = series.asarray()
            except ValueError as error:
                if "imagecodecs" not in str(error):
                    raise
                data = _read_rare(path, tuple(series.shape))
            is_flat = _is_flat(series.axes)
        data = data.astype(np.uint8) if data.dtype == bool else data  # of one bit
        samples = np.moveaxis(data, series.axes.index("S"), 0) if "S" in series.axes else data[None]
        voxels = without_alpha(path, samples, shape[0])
        return (voxels[:, None] if is_flat else voxels), _affine(path, shape, is_flat)

    def read_header(self, path: Path) -> tuple[tuple[int, ...], NDArray[np.float64]]:
        """Return the shape (C, Z, Y, X) and the affine."""
        _check_directories(path)
        with tifffile.TiffFile(path) as file:
            shape, is_flat = _shape(path, file), _is_flat(file.series[0].axes)
        return shape, _affine(path, shape, is_flat)

    def write(self, path: Path, array: NDArray, geometry: Geometry, like: Path | None) -> None:
        """Write an array (Z, Y, X), and before it the file with its spacing, without which a stack is not usable."""
        is_flat = len(array) == 1 and geometry.matrix[1, 1] < 0  # as pictures lie
        spacing = geometry.spacing if like is None else read_spacing(like, _PIXEL if is_flat else None)
        if not is_flat or spacing != _PIXEL or spacing_file(path) is not None:
            write_spacing(path, spacing)
        with replacing(path) as temporary:
            tifffile.imwrite(temporary, array[0] if is_flat else array, compression="zlib", photometric="minisblack")

    def companions(self, path: Path) -> tuple[Path, ...]:
        """Return the file with the spacing, where there is one."""
        beside = spacing_file(path)
        return () if beside is None else (beside,)

    def unfit(self, path: Path, use: Use) -> tuple[Fault, ...]:
        """Return a fault for a palette as an image, labels that JPEG has compressed, and what viewers turn."""
        _check_directories(path)
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            turned = page.tags.valueof(_ORIENTATION, 1)
            if turned != 1:
                return (turned_fault(path, turned),)
            if use == "labels":
                return (lossy_fault(path),) if page.compression in _JPEG else ()
            return (palette_fault(path),) if page.photometric == tifffile.PHOTOMETRIC.PALETTE else ()


def _read_rare(path: Path, shape: tuple[int, ...]) -> NDArray:
    """A stack with a compression, such as LZW, that tifffile reads only with a further package, and SimpleITK reads by itself."""
    import SimpleITK

    data: NDArray = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    if data.shape != shape:
        problem = f"its compression is read as {data.shape}, but it holds {shape} voxels"
        raise InputError(
            Fault(str(path), problem, "Save it without compression or with deflate, as `magick IN -compress zip OUT`")
        )
    return data


def _affine(path: Path, shape: tuple[int, ...], is_flat: bool) -> NDArray[np.float64]:
    spacing = read_spacing(path, _PIXEL if is_flat else None)
    straight = admit_spacing(str(path), shape[1:], spacing).matrix
    return upright(spacing) if is_flat else straight


def _is_flat(axes: str) -> bool:
    """Whether the axes are those of a single slice, without an axis of depth."""
    return len(axes.replace("S", "")) == 2


def _shape(path: Path, file: tifffile.TiffFile) -> tuple[int, ...]:
    """The shape (C, Z, Y, X); an alpha channel is not counted."""
    if not file.series:
        raise ValueError("it holds no image")
    series = file.series[0]
    shape = tuple(int(size) for size in series.shape)
    stated = [word for axis, word in _NOT_SPACE.items() if axis in series.axes]
    if stated:
        problem = f"its axes are {series.axes} with the shape {shape}: {' and '.join(stated)} instead of a volume"
        raise InputError(Fault(str(path), problem, _AXES_REMEDY))
    samples = shape[series.axes.index("S")] if "S" in series.axes else None
    if samples is not None and (samples not in (COLOURS, COLOURS + 1) or not _is_rgb(file)):
        problem = f"its {samples} samples of each pixel are not red, green and blue"
        raise InputError(Fault(str(path), problem, "Convert it to RGB, or store one file for each channel"))
    space = tuple(size for axis, size in zip(series.axes, shape, strict=True) if axis != "S")
    if len(space) not in (2, 3):
        raise InputError(Fault(str(path), f"its shape is {shape}", "Three axes (Z, Y, X) are needed, one file for each channel"))
    page = file.pages.first
    size = int(series.size) // 8 if page.bitspersample == 1 else int(series.nbytes)
    packed = page.compression != tifffile.COMPRESSION.NONE
    check_size(path, shape, size, path.stat().st_size * (MOST_DEFLATED if packed else 1))
    return (1 if samples is None else COLOURS, *((1, *space) if len(space) == 2 else space))


def _is_rgb(file: tifffile.TiffFile) -> bool:
    """Whether samples are red, green and blue once they are decoded: only the decoder of JPEG turns others into them."""
    page = file.pages.first
    is_turned = page.photometric == tifffile.PHOTOMETRIC.YCBCR and page.compression in _JPEG
    return is_turned or page.photometric == tifffile.PHOTOMETRIC.RGB


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
