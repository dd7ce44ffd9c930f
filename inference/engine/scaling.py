"""Resample an image to another size for test-time scale ensembling; `inference.engine.ensemble` resamples the scores back."""

from collections.abc import Sequence

from torch import Tensor

from se_unet.separable import apply_separable, gaussian_matrix, spline_matrix

Shape = tuple[int, int, int]
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
        self._matrices = [_image_matrix(image, axis, size) for axis, size in enumerate(shape, start=1)]

    def planes(self, first: int, last: int) -> Tensor:
        """Return planes (C, last - first, Y, X) with the image's dtype and device."""
        along_z = self._matrices[0]
        if along_z is None:
            return apply_separable(self._image[:, first:last], [None, *self._matrices[1:]])
        rows, needed = rows_of(along_z, first, last)
        return apply_separable(self._image[:, needed], [rows, *self._matrices[1:]])


def resample_image(image: Tensor, shape: Shape) -> Tensor:
    """Resample an image (C, Z, Y, X) to (C, *shape) as `ScaledImage` does, with the same dtype and device."""
    return ScaledImage(image, shape).planes(0, shape[0])


def rows_of(matrix: Tensor, first: int, last: int) -> tuple[Tensor, slice]:
    """Return rows `first` to `last` of a matrix (outputs, inputs), restricted to the columns they need, and these columns."""
    rows = matrix[first:last]
    needed = (rows.abs() > NEGLIGIBLE).any(0).nonzero()
    start, stop = int(needed[0]), int(needed[-1]) + 1
    return rows[:, start:stop], slice(start, stop)


def _image_matrix(image: Tensor, axis: int, size: int) -> Tensor | None:
    before = image.shape[axis]
    if before == size:
        return None
    matrix = spline_matrix(before, size, 3)
    if size < before:
        matrix = matrix @ gaussian_matrix(before, (before / size - 1) / 2)
    return matrix.to(image)
