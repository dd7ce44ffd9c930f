import numpy as np
import pytest
import torch
from skimage.transform import resize

from preprocessing.geometry.resampled_grid import find_separate_axis, resampled_shape
from preprocessing.resample import (
    LABEL_ORDER,
    apply_banded,
    apply_matrices,
    blocks_of,
    resample_image,
    resample_labels,
    resampling_matrices,
)
from se_unet.separable import apply_separable

UP, DOWN, MIXED = (17, 25, 14), (7, 6, 9), (6, 25, 12)
SHAPE = (12, 15, 10)


def smooth(seed=0, channels=2):
    return np.random.default_rng(seed).normal(size=(channels, *SHAPE)).astype(np.float32)


def blobs(classes=5, seed=0):
    """A label map of compact regions: the nearest of some random points."""
    random = np.random.default_rng(seed)
    points = random.uniform(0, SHAPE, (classes, 3))
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    return np.linalg.norm(grid[..., None, :] - points, axis=-1).argmin(-1).astype(np.int16)


@pytest.mark.parametrize("shape", [UP, DOWN, MIXED, SHAPE])
def test_images_equal_skimage(shape):
    image = smooth()
    resampled = resample_image(image, shape)
    for source, target in zip(image, resampled, strict=True):
        expected = resize(source, shape, order=3, mode="edge", anti_aliasing=False, clip=True)
        assert np.abs(target - expected).max() < 1e-4 * np.ptp(source)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_separate_axis_is_slice_by_slice(axis):
    """In-plane splines of every slice, then the nearest slice; interpolating across is different (control)."""
    image = smooth(channels=1)
    resampled = resample_image(image, UP, separate_axis=axis)[0]
    plane = tuple(size for index, size in enumerate(UP) if index != axis)
    planes = [
        resize(part, plane, order=3, mode="edge", anti_aliasing=False, clip=False) for part in np.moveaxis(image[0], axis, 0)
    ]
    nearest = np.clip(np.floor((np.arange(UP[axis]) + 0.5) * SHAPE[axis] / UP[axis]).astype(int), 0, SHAPE[axis] - 1)
    expected = np.moveaxis(np.stack(planes)[nearest], 0, axis)
    inside = np.clip(expected, image.min(), image.max())
    assert np.abs(resampled - inside).max() < 1e-3
    assert np.abs(resample_image(image, UP)[0] - inside).max() > 0.1


@pytest.mark.parametrize("shape", [UP, DOWN, MIXED])
@pytest.mark.parametrize("axis", [None, 1])
def test_labels_equal_the_argmax_of_all_classes(shape, axis):
    labels = blobs()
    resampled = resample_labels(labels, shape, axis)
    onehot = torch.from_numpy(np.stack([labels == index for index in range(5)]).astype(np.float32))
    shares = apply_matrices(onehot, resampling_matrices(SHAPE, shape, LABEL_ORDER, axis)).numpy()
    nearest = resize(labels.astype(float), shape, order=0, mode="edge", anti_aliasing=False).astype(int)
    assert resampled.dtype == np.int16 and _agrees(resampled, shares, nearest)
    if axis is None:
        assert _agrees(
            resampled,
            np.stack([resize(one.numpy(), shape, order=1, mode="edge", anti_aliasing=False) for one in onehot]),
            nearest,
        )
    assert not _agrees(shares.argmax(0), shares, nearest) or shape != UP  # the lowest index of a tie, as a control


def _agrees(winner, shares, nearest):
    """Whether every winner has the largest share, and is the nearest class where that has it too."""
    best = shares.max(0) - 1e-5
    is_largest = np.take_along_axis(shares, winner[None].astype(int), 0)[0] >= best
    is_nearest_best = np.take_along_axis(shares, nearest[None], 0)[0] >= best
    return is_largest.all() and np.array_equal(winner[is_nearest_best], nearest[is_nearest_best])


def test_labels_with_gaps_in_their_values():
    labels = np.zeros(SHAPE, np.int16)
    labels[3:5, 4:6, 5:7] = 7
    labels[-1, -1, -1] = 300
    doubled = resample_labels(labels, tuple(2 * size for size in SHAPE))
    assert set(np.unique(doubled)) == {0, 7, 300}
    assert np.array_equal(resample_labels(labels, SHAPE), labels)


def test_resampled_shape_keeps_the_extent():
    assert resampled_shape((10, 20, 30), (2, 1, 0.5), (1, 1, 1)) == (20, 20, 15)
    assert resampled_shape((3, 3, 3), (0.1, 1, 1), (1, 1, 1)) == (1, 3, 3)


@pytest.mark.parametrize(
    ("spacing", "planned", "axis"),
    [
        ((1, 1, 1), (1, 1, 1), None),
        ((5, 1, 1), (1, 1, 1), 0),
        ((1, 1, 1), (1, 4, 1), 1),
        ((3, 1, 1), (1, 1, 1), None),
        ((1, 5, 5), (1, 1, 1), None),
        ((1, 1, 5), (5, 1, 1), 2),
    ],
)
def test_separate_axis_rule(spacing, planned, axis):
    assert find_separate_axis(spacing, planned, 3) == axis


@pytest.mark.parametrize("shape", [(130, 40, 100), (40, 100, 70), (70, 99, 33), (75, 45, 90)])
def test_products_in_blocks_equal_dense_products(shape):
    """Axes of more than one block, growing, shrinking and kept; a matrix without its band's ends is different (control)."""
    volume = torch.randn(70, 45, 90, generator=torch.Generator().manual_seed(0))
    matrices = resampling_matrices(volume.shape, shape, 3, None)
    dense = apply_separable(volume.double(), [None if matrix is None else matrix.double() for matrix in matrices])
    assert (apply_banded(volume, matrices) - dense).abs().max() < 1e-5
    cut = [None if matrix is None else matrix * (matrix.abs() > 1e-3) for matrix in matrices]
    assert (apply_banded(volume, cut) - dense).abs().max() > 1e-3


def test_blocks_leave_out_what_is_0_and_hold_the_rest():
    matrix = resampling_matrices((300, 1, 1), (200, 1, 1), 3, None)[0]
    blocks = blocks_of(matrix)
    rebuilt = torch.zeros_like(matrix)
    for block in blocks:
        rebuilt[block.rows, block.columns] = block.weights
    assert torch.equal(rebuilt, matrix)
    assert max(block.weights.shape[1] for block in blocks) < 90
    assert len(blocks_of(torch.zeros(3, 4))[0].weights[0]) == 0


@pytest.mark.parametrize("slab_voxels", [1, 700, 10**9])
@pytest.mark.parametrize("shape", [UP, DOWN, (12, 20, 7)])
def test_labels_in_slabs_equal_labels_at_once(slab_voxels, shape):
    labels = blobs()
    assert np.array_equal(resample_labels(labels, shape, None, slab_voxels), resample_labels(labels, shape))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_gives_the_same_image():
    image = smooth()
    assert np.abs(resample_image(image, UP, device=torch.device("cuda")) - resample_image(image, UP)).max() < 1e-4
