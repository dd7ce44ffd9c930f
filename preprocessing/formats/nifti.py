"""NIfTI files through nibabel's headers.

The voxels are taken from the file's bytes directly: a header that states more voxels than the file can hold is refused before any
memory is allocated, and a compressed file is unpacked once, to its end, so that truncation and wrong checksums are found.
"""

import math
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from configs.errors import Fault, InputError
from configs.files import replacing
from preprocessing.formats.format import Format
from preprocessing.formats.nifti_geometry import Header, affine_in_mm, check_lengths, two_places
from preprocessing.formats.size_checks import MOST_DEFLATED, ZLIB_OR_GZIP, check_size, unpack
from preprocessing.geometry.affine import Geometry

_IMAGES = {348: nib.Nifti1Image, 540: nib.Nifti2Image}  # by the length of the header, its first number
_MAGIC = {348: (b"n+1\0", slice(344, 348)), 540: (b"n+2\0", slice(4, 8))}
_TRAILING = 2**20  # bytes behind the last voxel that are unpacked and ignored


class Nifti(Format):
    """NIfTI-1 and NIfTI-2 in one file, compressed or not."""

    endings = (".nii", ".nii.gz")
    damage = (HeaderDataError, WrapStructError)

    def read(self, path: Path) -> tuple[NDArray, NDArray[np.float64]]:
        """Return the voxels and the affine; a fourth axis holds the channels."""
        header = _read_nifti_header(path)
        shape, affine = _shape(path, header), affine_in_mm(str(path), header)
        dtype, offset = header.get_data_dtype(), int(header.get_data_offset())
        size = offset + math.prod(shape) * dtype.itemsize
        if _is_packed(path):
            check_size(path, shape, size, path.stat().st_size * MOST_DEFLATED)
            content = unpack(path.read_bytes(), size + _TRAILING)
            check_size(path, shape, size, len(content))
            flat = np.frombuffer(content, dtype, math.prod(shape), offset)
        else:
            check_size(path, shape, size, path.stat().st_size)
            flat = np.memmap(path, dtype, mode="r", offset=offset, shape=(math.prod(shape),))
        data = flat.reshape(shape, order="F")
        if np.isinf(header["scl_slope"]):
            raise ValueError("its intensities are scaled by an infinite number")
        slope, intercept = header.get_slope_inter()
        if not dtype.fields and (slope, intercept) not in ((None, None), (1.0, 0.0)):
            data = apply_read_scaling(data, slope, intercept)
        if np.issubdtype(data.dtype, np.floating) and data.dtype.itemsize > 4:
            with np.errstate(over="ignore"):  # infinite values are validation's to report
                data = data.astype(np.float32)
        return data.reshape(*shape[:3], -1, order="F").T, affine

    def read_header(self, path: Path) -> tuple[tuple[int, ...], NDArray[np.float64]]:
        """Return the shape (C, Z, Y, X) and the affine in the header."""
        header = _read_nifti_header(path)
        x, y, z, *channels = _shape(path, header)
        return (math.prod(channels), z, y, x), affine_in_mm(str(path), header)

    def write(self, path: Path, array: NDArray, geometry: Geometry, like: Path | None) -> None:
        """Write an array (Z, Y, X) with the header of `like`, or with a new one."""
        data = np.ascontiguousarray(array).T
        if like is None:
            image = nib.Nifti1Image(data, geometry.matrix)
            image.header.set_xyzt_units("mm", "unknown")
            image.set_sform(geometry.matrix, code="scanner")
            image.set_qform(geometry.matrix, code="scanner", strip_shears=True)
        else:
            source = _read_nifti_header(like)
            kind = _IMAGES[int(source["sizeof_hdr"])]
            image = kind(data, None, geometry_header(source, array.dtype))  # without an affine, the header's stays
        with replacing(path) as temporary:
            nib.save(image, temporary)

    def doubts(self, path: Path) -> tuple[str, ...]:
        """Return that sform and qform differ."""
        found = two_places(_read_nifti_header(path))
        return () if found is None else (found,)

    def scaling(self, path: Path) -> str | None:
        """Return slope and intercept where they change the stored values."""
        slope, intercept = _read_nifti_header(path).get_slope_inter()
        if (slope, intercept) in ((None, None), (1.0, 0.0)):
            return None
        return f"its scl_slope is {slope:g} and its scl_inter {intercept:g}"


def geometry_header(source: Header, dtype: np.dtype) -> Header:
    """Return a copy of an image's header that keeps the geometry, without the type, range and scaling of intensities or extensions."""
    header = source.copy()
    header.extensions.clear()
    header.set_data_dtype(dtype)
    header.set_slope_inter(1, 0)
    header.set_intent("none")
    header["cal_min"] = header["cal_max"] = 0
    header["vox_offset"] = 0  # that of an image with extensions would leave a gap
    return header


def check_loaded(where: str, image: nib.Nifti1Pair) -> None:
    """Refuse an image in memory whose spacings are not positive, or were not in its file before nibabel replaced them on loading.

    Raises:
        InputError: a spacing of the image, or one of its file that nibabel replaced, is not positive.
    """
    own, name = image.header["pixdim"][1:4], image.get_filename()
    if name is not None and Path(name).is_file() and name.lower().endswith(Nifti.endings):
        stated = _raw_header(Path(name))["pixdim"][1:4]
        if np.array_equal(np.where(stated == 0, 1, np.abs(stated)), own):
            check_lengths(where, "pixdim", stated)
    check_lengths(where, "pixdim", own)


def _read_nifti_header(path: Path) -> Header:
    """The header, checked and mended by nibabel, without its extensions."""
    raw = _raw_header(path)
    check_lengths(str(path), "pixdim", raw["pixdim"][1:4])
    header: Header = type(raw)(raw.binaryblock, raw.endianness)
    return header


def _raw_header(path: Path) -> Header:
    """The header as stored."""
    start = _start(path, max(_IMAGES))
    lengths = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    length = next((length for length in _IMAGES if length in lengths), None)
    if length is None or len(start) < length:
        raise ValueError("it does not begin with a NIfTI header")
    magic, place = _MAGIC[length]
    if start[place] != magic:
        raise ValueError(f"it is not a NIfTI file: its magic word is {start[place]!r} and not {magic!r}")
    header: Header = _IMAGES[length].header_class(start[:length], check=False)
    return header


def _is_packed(path: Path) -> bool:
    """Whether the file's name says that it is compressed."""
    return path.name.lower().endswith(".gz")


def _shape(path: Path, header: Header) -> tuple[int, ...]:
    """Voxels (x, y, z, ...), as plain integers, whose product cannot overflow."""
    shape = tuple(int(size) for size in header.get_data_shape())
    if len(shape) < 3 or min(shape) < 1 or len([size for size in shape[3:] if size > 1]) > 1:
        remedy = "Three axes are needed, or four with one volume for each channel"
        raise InputError(Fault(str(path), f"its shape is {shape} (x, y, z)", remedy))
    return shape


def _start(path: Path, size: int) -> bytes:
    """The first bytes of the file's content, unpacked."""
    with path.open("rb") as file:
        start = file.read(size if not _is_packed(path) else 4 * size)
    if _is_packed(path):
        if start[:2] != b"\x1f\x8b":
            raise ValueError("it is not compressed by gzip, though its name ends with .gz")
        return zlib.decompressobj(ZLIB_OR_GZIP).decompress(start, size)
    return start
