"""Where an image lies, from its header alone: no voxel is read."""

from pathlib import Path

import nibabel as nib
import SimpleITK

from configs.errors import Fault, InputError
from preprocessing.formats import is_nifti
from preprocessing.geometry import Geometry
from preprocessing.itk_files import affine_of
from preprocessing.nifti_files import NIFTI_DAMAGE


def read_geometry(path: Path) -> Geometry:
    """The geometry that an image's header states.

    Raises:
        InputError: the header cannot be read.
    """
    try:
        if is_nifti(path):
            image = nib.load(path)
            return Geometry.from_affine(image.shape[2::-1], image.affine)
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        frame = SimpleITK.Image([1, 1, 1], SimpleITK.sitkUInt8)
        frame.SetSpacing(reader.GetSpacing())
        frame.SetDirection(reader.GetDirection())
        frame.SetOrigin(reader.GetOrigin())
        return Geometry.from_affine(reader.GetSize()[::-1], affine_of(frame))
    except (OSError, EOFError, RuntimeError, ValueError, TypeError, NotImplementedError, *NIFTI_DAMAGE) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(Fault(str(path), f"its header cannot be read ({reason})", "Check the file")) from error
