"""Convert in-memory images of several libraries to arrays with geometry, and segmentations back to the same library."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK
from numpy.typing import NDArray

from preprocessing.formats.itk import affine_of
from preprocessing.formats.nifti import geometry_header
from preprocessing.geometry.affine import Geometry


@dataclass(frozen=True)
class Volume:
    """An image ready for preprocessing."""

    image: NDArray[np.float32]  # (C, Z, Y, X) float32 as given
    geometry: Geometry
    wrap: Callable[[NDArray[np.integer]], Any]  # converts label values (Z, Y, X) to the input's kind of image


def open_volume(image: Any, spacing: Sequence[float] | None = None) -> Volume:
    """Convert an image, or a list of images that are channels of one image.

    Args:
        image: a NumPy array (Z, Y, X) or (C, Z, Y, X); a nibabel image with three axes, or four with channels last; or a SimpleITK
            image with three axes, of scalars or vectors.
        spacing: spacing (Z, Y, X) in mm, for arrays only. Arrays must be in canonical orientation: X increases to the right, Y to
            anterior, Z to superior.

    Raises:
        TypeError: the image has an unsupported type.
        ValueError: the spacing is missing or superfluous, the number of axes is wrong, or the channels differ in shape.
    """
    channels = list(image) if isinstance(image, (list, tuple)) else [image]
    if not channels:
        raise ValueError("there must be at least one channel")
    volumes = [_open_one(channel, spacing) for channel in channels]
    first = volumes[0]
    if any(volume.geometry.shape != first.geometry.shape for volume in volumes):
        raise ValueError(f"all channels must have one shape, not {[volume.geometry.shape for volume in volumes]}")
    stacked = np.concatenate([volume.image for volume in volumes]) if len(volumes) > 1 else first.image
    return Volume(stacked, first.geometry, first.wrap)


def _open_one(image: Any, spacing: Sequence[float] | None) -> Volume:
    if isinstance(image, np.ndarray):
        return _open_array(image, spacing)
    if spacing is not None:
        raise ValueError("only arrays take a spacing; other images have their own")
    if isinstance(image, nib.spatialimages.SpatialImage):
        return _open_nibabel(image)
    if isinstance(image, SimpleITK.Image):
        return _open_simpleitk(image)
    raise TypeError(f"an image must be a NumPy array, a nibabel image or a SimpleITK image, not {type(image).__name__}")


def _open_array(array: NDArray, spacing: Sequence[float] | None) -> Volume:
    if spacing is None:
        raise ValueError("an array needs its spacing in mm (Z, Y, X)")
    if array.ndim not in (3, 4):
        raise ValueError(f"an array must be (Z, Y, X) or (C, Z, Y, X), not of shape {array.shape}")
    channels = array[None] if array.ndim == 3 else array
    return Volume(_as_float(channels), Geometry.from_spacing(channels.shape[1:], spacing), lambda labels: labels)


def _open_nibabel(image: nib.spatialimages.SpatialImage) -> Volume:
    data = np.asanyarray(image.dataobj)
    if data.ndim not in (3, 4):
        raise ValueError(f"a nibabel image must have three axes, or four with channels last, not the shape {data.shape}")
    channels = data.reshape(*data.shape[:3], -1).transpose(3, 2, 1, 0)

    def wrap(labels: NDArray[np.integer]) -> nib.Nifti1Image:
        if not isinstance(image, nib.Nifti1Image):
            return nib.Nifti1Image(labels.T, image.affine)
        # nibabel keeps sform and qform of a header whose affine is unchanged
        return type(image)(labels.T, image.affine, geometry_header(image.header, labels.dtype))

    return Volume(_as_float(channels), Geometry.from_affine(channels.shape[1:], image.affine), wrap)


def _open_simpleitk(image: SimpleITK.Image) -> Volume:
    if image.GetDimension() != 3:
        raise ValueError(f"a SimpleITK image must have three axes, not {image.GetDimension()}")
    data = SimpleITK.GetArrayFromImage(image)
    channels = np.moveaxis(data, 3, 0) if data.ndim == 4 else data[None]

    def wrap(labels: NDArray[np.integer]) -> SimpleITK.Image:
        segmentation = SimpleITK.GetImageFromArray(labels)
        segmentation.SetSpacing(image.GetSpacing())
        segmentation.SetDirection(image.GetDirection())
        segmentation.SetOrigin(image.GetOrigin())
        return segmentation

    return Volume(_as_float(channels), Geometry.from_affine(channels.shape[1:], affine_of(image)), wrap)


def _as_float(channels: NDArray) -> NDArray[np.float32]:
    return np.ascontiguousarray(channels, dtype=np.float32)
