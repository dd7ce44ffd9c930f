"""Rotation, scaling, mirroring: the patch is what scipy samples from the whole volume, and image and labels stay aligned."""

import math

import numpy as np
import pytest
from scipy import ndimage

from trainers.augmentation.spatial import (
    SpatialDraw,
    SpatialRanges,
    draw_factor,
    draw_spatial,
    flat_axis,
    rotation_matrix,
    source_box,
    spatial_ranges,
    transform,
)
from trainers.data.batches import read_patch
from trainers.data.cases import CaseInMemory
from trainers.data.patches import PatchSampler, Place

PATCH = (12, 10, 14)
START = (8, 11, 7)


def smooth_volume(shape: tuple[int, int, int] = (32, 34, 30)) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=shape)
    return ndimage.gaussian_filter(noise, 2).astype(np.float32)


def sample(volume: np.ndarray, labels: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A transformed patch, through the box that the loader reads."""
    case = CaseInMemory(volume[None], labels, {})
    sampler = PatchSampler({"case": case}, PATCH, 1, 0.0, ())
    image, transformed = read_patch(sampler, Place("case", START), SpatialDraw(matrix, ()))
    return image[0], transformed


@pytest.mark.parametrize("seed", range(4))
def test_patch_is_what_scipy_samples_from_the_whole_volume(seed: int) -> None:
    random = np.random.default_rng(seed)
    matrix = rotation_matrix(*random.uniform(-math.pi / 6, math.pi / 6, 3)) * random.uniform(0.7, 1.4)
    volume = smooth_volume()
    centre = np.array(START) + (np.array(PATCH) - 1) / 2
    offset = centre - matrix @ ((np.array(PATCH) - 1) / 2)
    padded = np.pad(volume, 12)  # SciPy's own constant border cuts the half voxel beyond the last one
    expected = ndimage.affine_transform(padded, matrix, offset + 12, output_shape=PATCH, order=1, mode="constant")
    found, _ = sample(volume, np.zeros(volume.shape, np.int16), matrix)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_image_and_labels_stay_aligned(seed: int) -> None:
    """An image that holds the labels themselves still agrees with them wherever no border is near."""
    draw = draw_spatial(np.random.default_rng(seed), SpatialRanges(((-1, 1), (-1, 1), (-1, 1)), (0.7, 1.4)))
    matrix = rotation_matrix(0.4, -0.3, 0.2) * 0.8 if draw.matrix is None else draw.matrix
    labels = (smooth_volume() > 0.02).astype(np.int16) + (smooth_volume() > 0.08)
    case = CaseInMemory(labels.astype(np.float32)[None], labels, {})
    sampler = PatchSampler({"case": case}, PATCH, 1, 0.0, ())
    image, transformed = read_patch(sampler, Place("case", START), SpatialDraw(matrix, draw.mirrored))
    inner = np.abs(image[0] - np.round(image[0])) < 0.25
    assert inner.mean() > 0.5
    np.testing.assert_array_equal(np.round(image[0])[inner], transformed[inner])


def test_coordinates_move_as_the_matrix_says() -> None:
    """Three channels that hold their own coordinates tell where each voxel came from."""
    shape = (40, 40, 40)
    volume = np.stack(np.indices(shape)).astype(np.float32)
    matrix = rotation_matrix(0.3, 0.1, -0.2) * 1.2
    start, size = (14, 15, 13), PATCH
    box, extent = source_box(start, size, matrix)
    inside = tuple(slice(first, first + length) for first, length in zip(box, extent, strict=True))
    found, _ = transform(volume[(slice(None), *inside)], np.zeros(extent, np.int16), box, start, size, matrix)
    half = (np.array(size) - 1) / 2
    offsets = np.stack(np.indices(size), -1) - half
    expected = offsets @ matrix.T + np.array(start) + half
    np.testing.assert_allclose(np.moveaxis(found, 0, -1), expected, atol=1e-3)


@pytest.mark.parametrize(
    ("angles", "plane"), [((math.pi / 2, 0, 0), (1, 2)), ((0, math.pi / 2, 0), (0, 2)), ((0, 0, math.pi / 2), (0, 1))]
)
def test_a_quarter_turn_is_exact(angles: tuple[float, float, float], plane: tuple[int, int]) -> None:
    volume = smooth_volume((12, 12, 12))
    labels = (volume > 0).astype(np.int16)
    found, turned = transform(volume[None], labels, (0, 0, 0), (0, 0, 0), (12, 12, 12), rotation_matrix(*angles))
    np.testing.assert_allclose(found[0], np.rot90(volume, -1, plane), atol=1e-5)
    np.testing.assert_array_equal(turned, np.rot90(labels, -1, plane))


def test_the_box_holds_every_source_voxel() -> None:
    random = np.random.default_rng(0)
    corners = np.stack(np.meshgrid(*[(0, size - 1) for size in PATCH], indexing="ij"), -1).reshape(-1, 3)
    for _ in range(50):
        matrix = rotation_matrix(*random.uniform(-math.pi, math.pi, 3)) * random.uniform(0.5, 2)
        half = (np.array(PATCH) - 1) / 2
        sources = (corners - half) @ matrix.T + np.array(START) + half
        box, extent = source_box(START, PATCH, matrix)
        assert (sources >= np.array(box) - 1e-5).all()
        assert (sources <= np.array(box) + np.array(extent) - 1 + 1e-5).all()
        assert (np.array(extent) <= np.ptp(sources, 0) + 3).all()


def test_rotated_patches_see_data_at_their_corners() -> None:
    """A patch cut before it is rotated would have empty corners: here there are none inside a large image."""
    volume = np.ones((40, 40, 40), np.float32)
    found, _ = sample(volume, np.zeros(volume.shape, np.int16), rotation_matrix(0.5, 0.5, 0.5))
    assert found.min() == pytest.approx(1)
    centre = tuple(slice(first, first + size) for first, size in zip(START, PATCH, strict=True))
    cut, _ = transform(volume[(None, *centre)], np.zeros(PATCH, np.int16), START, START, PATCH, rotation_matrix(0.5, 0.5, 0.5))
    assert cut.min() == 0


def test_shares_of_rotation_scaling_and_mirroring() -> None:
    random = np.random.default_rng(0)
    ranges = spatial_ranges((16, 16, 16), (0.7, 1.4), (0, 2))
    draws = [draw_spatial(random, ranges) for _ in range(4000)]
    determinants = np.array([1.0 if draw.matrix is None else np.linalg.det(draw.matrix) for draw in draws])
    assert np.mean([draw.matrix is not None for draw in draws]) == pytest.approx(1 - 0.8**2, abs=0.02)
    assert np.mean(np.abs(determinants - 1) > 1e-9) == pytest.approx(0.2, abs=0.02)
    for axis, share in ((0, 0.5), (1, 0.0), (2, 0.5)):
        assert np.mean([axis in draw.mirrored for draw in draws]) == pytest.approx(share, abs=0.03)


def test_factors_shrink_and_grow_alike() -> None:
    random = np.random.default_rng(0)
    factors = np.array([draw_factor(random, (0.7, 1.4)) for _ in range(4000)])
    assert 0.7 <= factors.min() < 0.71
    assert 1.39 < factors.max() <= 1.4
    assert np.mean(factors < 1) == pytest.approx(0.5, abs=0.03)
    assert min(draw_factor(random, (1.1, 1.2)) for _ in range(100)) >= 1.1
    assert max(draw_factor(random, (0.5, 0.9)) for _ in range(100)) <= 0.9


@pytest.mark.parametrize(("patch", "across"), [((4, 32, 32), 0), ((32, 1, 24), 1), ((40, 32, 5), 2)])
def test_flat_patches_turn_within_their_slices(patch: tuple[int, int, int], across: int) -> None:
    random = np.random.default_rng(0)
    assert flat_axis(patch) == across
    ranges = spatial_ranges(patch, (0.7, 1.4), ())
    matrices = [draw.matrix for draw in (draw_spatial(random, ranges) for _ in range(200)) if draw.matrix is not None]
    for matrix in matrices:
        np.testing.assert_array_equal(matrix[across], np.eye(3)[across])
        np.testing.assert_array_equal(matrix[:, across], np.eye(3)[across])
    others = [axis for axis in range(3) if axis != across]
    assert max(np.abs(np.linalg.inv(matrix)[others[0], others[1]]) for matrix in matrices) > 0.5
    assert flat_axis((16, 16, 40)) is None


def test_a_slice_much_longer_than_wide_is_hardly_turned() -> None:
    assert spatial_ranges((1, 20, 40), None, ()).angles[0] == pytest.approx((-math.pi / 12, math.pi / 12))
    assert spatial_ranges((30, 1, 40), None, ()).angles[1] == pytest.approx((-math.pi, math.pi))


def test_a_single_slice_keeps_to_its_slice() -> None:
    volume = smooth_volume()
    labels = (volume > 0).astype(np.int16)
    case = CaseInMemory(volume[None], labels, {})
    sampler = PatchSampler({"case": case}, (1, 10, 14), 1, 0.0, ())
    turned = SpatialDraw(rotation_matrix(math.pi, 0, 0), ())
    image, found = read_patch(sampler, Place("case", (9, 11, 7)), turned)
    np.testing.assert_allclose(image[0, 0], volume[9, 11:21, 7:21][::-1, ::-1], atol=1e-5)
    np.testing.assert_array_equal(found[0], labels[9, 11:21, 7:21][::-1, ::-1])


def test_no_scaling_where_it_is_switched_off() -> None:
    random = np.random.default_rng(0)
    draws = (draw_spatial(random, spatial_ranges((16, 16, 16), None, ())) for _ in range(300))
    assert all(abs(np.linalg.det(draw.matrix) - 1) < 1e-9 for draw in draws if draw.matrix is not None)
