"""Resample an image to another size for test-time scale ensembling; `inference.engine.ensemble` resamples the scores back."""

from collections.abc import Sequence

import torch
from torch import Tensor

from configs.fingerprint import Shape
from se_unet.separable import apply_separable, gaussian_matrix, spline_matrix

NEGLIGIBLE = 1e-8  # spline weight: the prefilter's weights decay but never vanish


def scaled_shape(shape: Sequence[int], factor: float, axes: Sequence[int] = (0, 1, 2)) -> Shape:
    """Return the shape (Z, Y, X) after scaling the given axes by `factor`, rounded, at least 1 voxel.

    Raises:
        ValueError: the factor is not positive.
    """
    if not factor > 0:
        raise ValueError(f"a scale factor must be positive, not {factor}")
    z, y, x = (max(1, round(size * factor)) if axis in axes else size for axis, size in enumerate(shape))
    return z, y, x


class ScaledImage:
    """An image resampled to another shape over the same extent by cubic splines, computed plane by plane on demand.

    An axis that shrinks is first blurred by a Gaussian of sigma `(ratio - 1) / 2` voxels, ratio = voxels before / after, to avoid
    aliasing. Blur and interpolation are one matrix per axis.
    """

    def __init__(self, image: Tensor, shape: Shape):
        """Args: image: image (C, Z, Y, X). shape: new shape (Z, Y, X)."""
        self.shape = shape
        self.channels = len(image)
        self._image = image
        z, y, x = (_image_matrix(image, axis, size) for axis, size in enumerate(shape, start=1))
        self._along_z = None if z is None else Rows(z, image.device)
        self._in_plane = [None if matrix is None else matrix.to(image.device) for matrix in (y, x)]

    def planes(self, first: int, last: int) -> Tensor:
        """Return planes (C, last - first, Y, X) with the image's dtype and device."""
        if self._along_z is None:
            return apply_separable(self._image[:, first:last], [None, *self._in_plane])
        rows, needed = self._along_z.of(first, last)
        return apply_separable(self._image[:, needed], [rows, *self._in_plane])


def scale_image(image: Tensor, shape: Shape) -> Tensor:
    """Resample an image (C, Z, Y, X) to (C, *shape) as `ScaledImage` does, with the same dtype and device."""
    return ScaledImage(image, shape).planes(0, shape[0])


class Rows:
    """A matrix (outputs, inputs) on a device, of which a few rows are used at a time, with the columns that they need.

    The columns are found once in host memory, since a device would have to be waited for each time.
    """

    def __init__(self, matrix: Tensor, device: torch.device):
        """Args: matrix: matrix in host memory. device: device on which it is used."""
        is_needed = matrix.abs() > NEGLIGIBLE
        inputs = matrix.shape[1]
        numbers = torch.arange(inputs)
        self._first: list[int] = torch.where(is_needed, numbers, inputs).amin(1).tolist()
        self._last: list[int] = torch.where(is_needed, numbers, -1).amax(1).tolist()
        self._matrix = matrix.to(device)

    def of(self, first: int, last: int) -> tuple[Tensor, slice]:
        """Return rows `first` to `last`, restricted to the columns that they need, and these columns."""
        columns = slice(min(self._first[first:last]), max(self._last[first:last]) + 1)
        return self._matrix[first:last, columns], columns


def _image_matrix(image: Tensor, axis: int, size: int) -> Tensor | None:
    """Return the matrix of an axis in host memory, in the image's precision."""
    before = image.shape[axis]
    if before == size:
        return None
    matrix = spline_matrix(before, size, 3)
    if size < before:
        matrix = matrix @ gaussian_matrix(before, (before / size - 1) / 2)
    return matrix.to(image.dtype)
