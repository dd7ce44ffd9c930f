"""What SimpleITK keeps beside voxels and geometry: units that it does not apply, and a NIfTI header that it followed in part."""

import re
from typing import Any

import nibabel as nib
import numpy as np

from configs.errors import Fault, InputError
from preprocessing.formats.nifti_geometry import affine_in_mm

_LENGTHS = re.compile(r"(?:|c|n|k|u|µ|μ|centi|nano|kilo|micro)(?:m|meter|metre)s?|microns?|in|inch|inches")  # other than mm
_UNITS = re.compile(r"NRRD_units\[\d\]|ITK_VoxelUnits")
_SINGLE = ("qform_code", "sform_code", "xyzt_units", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
_ROWS = ("srow_x", "srow_y", "srow_z")
_Source = Any  # SimpleITK.Image or SimpleITK.ImageFileReader


def check_metadata(where: str, image: _Source) -> None:
    """Refuse an image whose metadata state another unit than mm, or a NIfTI header that contradicts itself.

    Metadata of NIfTI count as long as the image has the spacing that ITK took from them.

    Raises:
        InputError: as said; the text is the one for a NIfTI file.
    """
    keys = image.GetMetaDataKeys()
    for key in filter(_UNITS.fullmatch, keys):
        check_unit(where, image.GetMetaData(key))
    if {*_SINGLE, *_ROWS, "pixdim[1]", "pixdim[2]", "pixdim[3]", "dim[1]"} <= set(keys):
        header = _header(image)
        unit = {1: 1000.0, 3: 0.001}.get(int(header["xyzt_units"]) % 8, 1.0)
        if np.allclose(image.GetSpacing(), np.abs(header["pixdim"][1:4]) * unit, rtol=1e-5):
            affine_in_mm(where, header)


def check_unit(where: str, unit: str) -> None:
    """Refuse a unit of length other than mm; words that name no length are ignored.

    Raises:
        InputError: it is another length.
    """
    if _LENGTHS.fullmatch(unit.strip().lower()):
        problem = f"its header states lengths in {unit.strip()}, which readers of this format take as mm"
        raise InputError(Fault(where, problem, "Convert spacing and origin to mm, and set the unit to mm"))


def _header(image: _Source) -> nib.Nifti1Header:
    """The fields of a NIfTI header as ITK keeps them: in words, without `qfac`, for which the image's handedness stands."""
    header = nib.Nifti1Header()
    for name in _SINGLE:
        header[name] = float(image.GetMetaData(name))
    for name in _ROWS:
        header[name] = [float(word) for word in image.GetMetaData(name).split()]
    header["dim"][:4] = 3, *image.GetSize()
    is_left_handed = np.linalg.det(np.reshape(image.GetDirection(), (3, 3))) < 0
    header["pixdim"][:4] = -1 if is_left_handed else 1, *(float(image.GetMetaData(f"pixdim[{axis}]")) for axis in (1, 2, 3))
    return header
