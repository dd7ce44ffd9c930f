"""NIfTI files through nibabel, without rounding what the header says."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from configs.errors import Fault, InputError
from preprocessing.geometry import Geometry

NIFTI_DAMAGE = (ImageFileError, HeaderDataError, WrapStructError)
_CLASSES = {348: nib.Nifti1Image, 540: nib.Nifti2Image}  # by the length of the header, its first number


def read(path: Path) -> tuple[NDArray, NDArray[np.float64]]:
    """Read (volumes, Z, Y, X) and the affine.

    Raises:
        InputError: the image does not have three axes, or four with channels.
        OSError, EOFError, zlib.error, ValueError, and nibabel's errors: the file is damaged.
    """
    image = _open(path)
    shape = image.shape
    if len(shape) < 3 or len([size for size in shape[3:] if size > 1]) > 1:
        remedy = "Three axes are needed, or four with one volume for each channel"
        raise InputError(Fault(str(path), f"its shape is {shape} (x, y, z)", remedy))
    data = np.asanyarray(image.dataobj)
    if data.dtype == np.float64:
        data = data.astype(np.float32)
    return data.reshape(*shape[:3], -1).T, image.affine


def write(path: Path, array: NDArray, geometry: Geometry, like: Path | None) -> None:
    """Write (Z, Y, X). The header of `like` is kept where it says the same geometry."""
    data = np.ascontiguousarray(array).T
    if like is None:
        image = nib.Nifti1Image(data, geometry.matrix)
        image.header.set_xyzt_units("mm", "unknown")
        image.set_sform(geometry.matrix, code="scanner")
        image.set_qform(geometry.matrix, code="scanner", strip_shears=True)
    else:
        source = _open(like)
        image = type(source)(data, None, geometry_header(source.header, array.dtype))  # without an affine, the header's stays
    nib.save(image, path)


def _open(path: Path) -> nib.Nifti1Image:
    if not path.name.lower().endswith(".gz"):
        return nib.load(path)
    content = gzip.decompress(path.read_bytes())  # to the end, so that truncation and wrong checksums show
    lengths = {int.from_bytes(content[:4], order) for order in ("little", "big")}
    kind = next((kind for length, kind in _CLASSES.items() if length in lengths), None)
    if kind is None:
        raise ValueError("it does not begin with a NIfTI header")
    return kind.from_bytes(content)


def geometry_header(source: nib.Nifti1Header, dtype: np.dtype) -> nib.Nifti1Header:
    """The geometry of another image's header, without its intensities' type, range and extensions."""
    header = source.copy()
    header.extensions.clear()
    header.set_data_dtype(dtype)
    header.set_slope_inter(1, 0)
    header.set_intent("none")
    header["cal_min"] = header["cal_max"] = 0
    return header
