"""Convert in-memory images of several libraries to arrays with geometry, and segmentations back to the same library."""

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from configs.errors import Fault, collecting, raise_faults
from preprocessing.formats.gate import Stored, admit, admit_spacing
from preprocessing.formats.images import DOUBT_REMEDY
from preprocessing.formats.itk_metadata import check_metadata
from preprocessing.formats.nifti import check_loaded, geometry_header
from preprocessing.formats.nifti_geometry import affine_in_mm, header_in_memory, two_places
from preprocessing.geometry.affine import Geometry

if TYPE_CHECKING:
    import SimpleITK

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Volume:
    """An image ready for preprocessing."""

    image: NDArray[np.float32]  # (C, Z, Y, X) float32 as given
    geometry: Geometry
    wrap: Callable[[NDArray[np.integer]], Any]  # converts label values (Z, Y, X) to the input's kind of image


@dataclass(frozen=True)
class _Opened:
    """One image as it was given, and how a segmentation becomes the same kind of image."""

    stored: Stored
    wrap: Callable[[NDArray[np.integer]], Any]


def open_volume(image: Any, spacing: Sequence[float] | None = None, where: str = "the image") -> Volume:
    """Convert an image, or a list of images that are channels of one image.

    Args:
        image: a NumPy array (Z, Y, X) or (C, Z, Y, X); a nibabel image with three axes, or four with channels last; or a SimpleITK
            image with three axes, of scalars or vectors.
        spacing: spacing (Z, Y, X) in mm, for arrays only. Arrays must be in canonical orientation: X increases to the right, Y to
            anterior, Z to superior.
        where: name of the image in messages.

    Raises:
        InputError: the image contradicts itself, its numbers are not real, or its channels lie on different grids, as for files.
        TypeError: the image has an unsupported type.
        ValueError: the spacing is missing or superfluous, or the number of axes is wrong.
    """
    channels = list(image) if isinstance(image, (list, tuple)) else [image]
    if not channels:
        raise ValueError("there must be at least one channel")
    names = [where] if len(channels) == 1 else [f"{where}, channel {index}" for index in range(len(channels))]
    faults: list[Fault] = []
    opened: list[_Opened] = []
    for name, channel in zip(names, channels, strict=True):
        with collecting(faults):
            opened.append(_open_one(name, channel, spacing))
    raise_faults(faults)
    admitted = admit([one.stored for one in opened])
    return Volume(admitted.image, admitted.geometry, opened[0].wrap)


def _open_one(where: str, image: Any, spacing: Sequence[float] | None) -> _Opened:
    if isinstance(image, np.ndarray):
        return _open_array(where, image, spacing)
    if spacing is not None:
        raise ValueError("only arrays take a spacing; other images have their own")
    if isinstance(image, nib.spatialimages.SpatialImage):
        return _open_nibabel(where, image)
    if "SimpleITK" in sys.modules and isinstance(
        image, sys.modules["SimpleITK"].Image
    ):  # whoever has such an image has imported it
        return _open_simpleitk(where, image)
    raise TypeError(f"an image must be a NumPy array, a nibabel image or a SimpleITK image, not {type(image).__name__}")


def _open_array(where: str, array: NDArray, spacing: Sequence[float] | None) -> _Opened:
    if spacing is None:
        raise ValueError("an array needs its spacing in mm (Z, Y, X)")
    if array.ndim not in (3, 4):
        raise ValueError(f"an array must be (Z, Y, X) or (C, Z, Y, X), not of shape {array.shape}")
    channels = array[None] if array.ndim == 3 else array
    return _Opened(Stored(where, channels, admit_spacing(where, channels.shape[1:], spacing).matrix), lambda labels: labels)


def _open_nibabel(where: str, image: nib.spatialimages.SpatialImage) -> _Opened:
    data = np.asanyarray(image.dataobj)
    if data.ndim not in (3, 4):
        raise ValueError(f"a nibabel image must have three axes, or four with channels last, not the shape {data.shape}")
    channels = data.reshape(*data.shape[:3], -1).transpose(3, 2, 1, 0)
    if not isinstance(image, nib.Nifti1Pair):  # other formats have one geometry, in mm
        return _Opened(Stored(where, channels, image.affine), lambda labels: nib.Nifti1Image(labels.T, image.affine))
    check_loaded(where, image)
    header = header_in_memory(image)
    affine = header.get_best_affine() if image.affine is None else image.affine
    doubt = two_places(header)
    if doubt is not None:
        logger.warning("%s", Fault(where, doubt, DOUBT_REMEDY))

    def wrap(labels: NDArray[np.integer]) -> nib.Nifti1Pair:
        # nibabel keeps sform and qform of a header whose affine is unchanged
        return type(image)(labels.T, affine, geometry_header(header, labels.dtype))

    return _Opened(Stored(where, channels, affine_in_mm(where, header, affine)), wrap)


def _open_simpleitk(where: str, image: "SimpleITK.Image") -> _Opened:
    import SimpleITK

    from preprocessing.formats.itk import affine_of

    if image.GetDimension() != 3:
        raise ValueError(f"a SimpleITK image must have three axes, not {image.GetDimension()}")
    check_metadata(where, image)
    data = SimpleITK.GetArrayFromImage(image)
    channels = np.moveaxis(data, 3, 0) if data.ndim == 4 else data[None]

    def wrap(labels: NDArray[np.integer]) -> SimpleITK.Image:
        segmentation = SimpleITK.GetImageFromArray(labels)
        segmentation.SetSpacing(image.GetSpacing())
        segmentation.SetDirection(image.GetDirection())
        segmentation.SetOrigin(image.GetOrigin())
        return segmentation

    return _Opened(Stored(where, channels, affine_of(image)), wrap)
