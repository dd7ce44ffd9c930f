"""NRRD, MetaImage and GIPL files through SimpleITK."""

from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from configs.errors import Fault, InputError
from preprocessing.geometry import Geometry

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's left, posterior, superior and NIfTI's right, anterior, superior


def read(path: Path) -> tuple[NDArray, NDArray[np.float64]]:
    """Read (volumes, Z, Y, X) and the RAS affine.

    Raises:
        RuntimeError: SimpleITK cannot read the file.
        InputError: the image does not have three axes.
    """
    image = SimpleITK.ReadImage(str(path))
    if image.GetDimension() != 3:
        raise InputError(Fault(str(path), f"it has {image.GetDimension()} axes", "Three are needed, with channels as components"))
    data = SimpleITK.GetArrayFromImage(image)
    volumes = np.moveaxis(data, 3, 0) if image.GetNumberOfComponentsPerPixel() > 1 else data[None]
    return volumes, affine_of(image)


def affine_of(image: SimpleITK.Image) -> NDArray[np.float64]:
    """NIfTI's affine of an image with three axes: voxel indices (x, y, z) to RAS+ mm."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return _LPS @ affine


def write(path: Path, array: NDArray, geometry: Geometry, like: Path | None) -> None:
    """Write (Z, Y, X). The spacing, origin and direction of `like` are kept to the bit."""
    image = SimpleITK.GetImageFromArray(array)
    if like is None:
        direction = _LPS[:3, :3] @ geometry.direction
        image.SetSpacing(geometry.spacing[::-1])
        image.SetDirection(direction.ravel().tolist())
        image.SetOrigin((_LPS @ geometry.matrix)[:3, 3].tolist())
    else:
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(like))
        reader.ReadImageInformation()
        image.SetSpacing(reader.GetSpacing())
        image.SetDirection(reader.GetDirection())
        image.SetOrigin(reader.GetOrigin())
    SimpleITK.WriteImage(image, str(path), useCompression=True)
