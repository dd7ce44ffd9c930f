"""An image at another size, and class probabilities back at the first: the two halves of test-time scale ensembling."""

from collections.abc import Sequence

from torch import Tensor

from se_unet.separable import apply_separable, gaussian_matrix, spline_matrix

Shape = tuple[int, int, int]


def scaled_shape(shape: Sequence[int], factor: float, axes: Sequence[int] = (0, 1, 2)) -> Shape:
    """Voxels (Z, Y, X) after scaling the given axes by `factor`, rounded, at least 1.

    Raises:
        ValueError: the factor is not positive.
    """
    if not factor > 0:
        raise ValueError(f"a scale factor must be positive, not {factor}")
    z, y, x = (max(1, round(size * factor)) if axis in axes else size for axis, size in enumerate(shape))
    return z, y, x


def resample_image(image: Tensor, shape: Shape) -> Tensor:
    """Resample an image to `shape` by cubic splines, over the same extent.

    A shrinking axis is first blurred by a Gaussian of `(ratio - 1) / 2` voxels, ratio = voxels before / after, so that detail too
    fine for the new grid does not turn into false coarse detail. Blur and interpolation are one matrix per axis.

    Args:
        image: (C, Z, Y, X) float.
        shape: (Z, Y, X).

    Returns:
        (C, *shape), same dtype and device.
    """
    return apply_separable(image, [_image_matrix(image, axis, size) for axis, size in enumerate(shape, start=1)])


def resample_probabilities(probabilities: Tensor, shape: Shape) -> Tensor:
    """Resample class probabilities to `shape` by linear interpolation, over the same extent.

    Linear weights are positive and sum to 1, and so probabilities stay probabilities.

    Args:
        probabilities: (K, Z, Y, X) float.
        shape: (Z, Y, X).

    Returns:
        (K, *shape), same dtype and device.
    """
    before = probabilities.shape[1:]
    matrices = [None if n == size else spline_matrix(n, size, 1).to(probabilities) for n, size in zip(before, shape, strict=True)]
    return apply_separable(probabilities, matrices)


def _image_matrix(image: Tensor, axis: int, size: int) -> Tensor | None:
    before = image.shape[axis]
    if before == size:
        return None
    matrix = spline_matrix(before, size, 3)
    if size < before:
        matrix = matrix @ gaussian_matrix(before, (before / size - 1) / 2)
    return matrix.to(image)
