"""Separable operators agree with independent implementations."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.transform import resize

from se_unet.separable import apply_along, apply_separable, gaussian_matrix, interpolation_matrix, spline_matrix, toeplitz_matrix


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("shape", [(23, 14, 11), (8, 40, 30), (17, 21, 5), (1, 2, 64)])
def test_resampling_is_that_of_skimage(order: int, shape: tuple[int, int, int]) -> None:
    volume = np.random.default_rng(0).normal(size=(17, 20, 11))
    expected = resize(volume, shape, order=order, mode="edge", anti_aliasing=False, clip=False)
    matrices = [spline_matrix(n, m, order) for n, m in zip(volume.shape, shape, strict=True)]
    received = apply_separable(torch.from_numpy(volume), matrices).numpy()
    np.testing.assert_allclose(received, expected, atol=1e-5)


def test_without_the_prefilter_resampling_would_differ() -> None:
    volume = np.random.default_rng(0).normal(size=40)
    expected = resize(volume, (50,), order=3, mode="edge", anti_aliasing=False, clip=False)
    unfiltered = ndimage.zoom(volume, 50 / 40, order=3, mode="nearest", grid_mode=True, prefilter=False)
    received = (spline_matrix(40, 50, 3) @ torch.from_numpy(volume)).numpy()
    assert np.abs(received - expected).max() < 1e-6 < np.abs(unfiltered - expected).max()


def test_axes_are_applied_in_place_of_themselves() -> None:
    x = torch.randn(2, 3, 4, 5, 6)
    matrix = torch.randn(7, 5)
    torch.testing.assert_close(apply_along(x, matrix, 3), torch.einsum("ij,bczjx->bczix", matrix, x))
    torch.testing.assert_close(apply_separable(x, [None, matrix, None]), apply_along(x, matrix, -2))


def test_a_matrix_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="a matrix for 5 inputs does not fit axis 0"):
        apply_along(torch.zeros(4), torch.zeros(2, 5), 0)


def test_an_unknown_spline_order_is_refused() -> None:
    with pytest.raises(ValueError, match="order 2"):
        interpolation_matrix(torch.zeros(1, dtype=torch.float64), 4, 2)


def test_gaussian_blur_is_that_of_scipy() -> None:
    signal = np.random.default_rng(0).normal(size=30)
    expected = ndimage.gaussian_filter1d(signal, 1.3, mode="nearest", radius=5)
    np.testing.assert_allclose((gaussian_matrix(30, 1.3) @ torch.from_numpy(signal)).numpy(), expected, atol=1e-12)


def test_blur_keeps_constants_also_on_axes_shorter_than_its_taps() -> None:
    for n in (1, 2, 3, 20):
        torch.testing.assert_close(gaussian_matrix(n, 2.0).sum(1), torch.ones(n, dtype=torch.float64))
    assert toeplitz_matrix(torch.ones(3), 1).item() == 3
