"""Metrics against independent implementations, and their behaviour where something is absent."""

import math

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from inference.evaluation.metrics import Overlap, SurfaceDistances, confusion_matrix, overlap, surface_distances

SPACING = (3.0, 1.0, 0.5)


def two_masks(seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two overlapping ellipsoids with ragged borders."""
    random = np.random.default_rng(seed)
    z, y, x = np.indices((10, 20, 30))
    masks = []
    for shift in (0, 2):
        distance = ((z - 5) / 3) ** 2 + ((y - 9 - shift) / 6) ** 2 + ((x - 14 + shift) / 8) ** 2
        masks.append(distance + 0.3 * random.random(distance.shape) < 1)
    return masks[0], masks[1]


@pytest.mark.parametrize("seed", range(3))
def test_counts_agree_with_simpleitk(seed: int) -> None:
    random = np.random.default_rng(seed)
    predicted, reference = random.integers(0, 4, (2, 6, 7, 8))
    confusion = confusion_matrix(predicted, reference, 4)
    for label in range(4):
        counts, measures = overlap(confusion, [label]), simpleitk_overlap(predicted == label, reference == label)
        assert counts.dice == pytest.approx(measures.GetDiceCoefficient())
        assert counts.iou == pytest.approx(measures.GetJaccardCoefficient())
        assert counts.precision == pytest.approx(1 - measures.GetFalseDiscoveryRate())
        assert counts.recall == pytest.approx(1 - measures.GetFalseNegativeError())


def simpleitk_overlap(predicted: NDArray[np.bool_], reference: NDArray[np.bool_]) -> SimpleITK.LabelOverlapMeasuresImageFilter:
    measures = SimpleITK.LabelOverlapMeasuresImageFilter()
    measures.Execute(
        *(SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in (predicted, reference))
    )  # source and target
    return measures


def test_regions_agree_with_simpleitk() -> None:
    random = np.random.default_rng(0)
    predicted, reference = random.integers(0, 4, (2, 6, 7, 8))
    counts = overlap(confusion_matrix(predicted, reference, 4), [1, 3])
    measures = simpleitk_overlap(np.isin(predicted, [1, 3]), np.isin(reference, [1, 3]))
    assert counts.dice == pytest.approx(measures.GetDiceCoefficient())
    assert counts.iou == pytest.approx(measures.GetJaccardCoefficient())


def test_absent_labels() -> None:
    nowhere = Overlap(0, 0, 0)
    assert all(math.isnan(getattr(nowhere, name)) for name in ("dice", "iou", "precision", "recall", "volume_error"))
    invented = Overlap(0, 5, 0)
    assert (invented.dice, invented.iou, invented.precision) == (0, 0, 0)
    assert math.isnan(invented.recall) and math.isnan(invented.volume_error)
    missed = Overlap(0, 0, 5)
    assert (missed.dice, missed.recall, missed.volume_error) == (0, 0, -1)
    assert math.isnan(missed.precision)
    assert Overlap(4, 4, 0).volume_error == 1


def test_confusion_refuses_what_does_not_fit() -> None:
    ones = np.ones((2, 2, 2), int)
    with pytest.raises(ValueError, match="one shape"):
        confusion_matrix(ones, np.ones((2, 2, 1), int), 2)
    with pytest.raises(ValueError, match="the reference has indices from 2 to 2, not from 0 to 1"):
        confusion_matrix(ones, 2 * ones, 2)


def brute_force(predicted: NDArray[np.bool_], reference: NDArray[np.bool_]) -> tuple[NDArray, NDArray]:
    """All distances between all surface voxels, found by looking at each voxel's six neighbours."""

    def surface(mask: NDArray[np.bool_]) -> NDArray:
        padded = np.pad(mask, 1)
        inside = np.ones_like(mask)
        for axis in range(3):
            for step in (-1, 1):
                inside &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
        return np.argwhere(mask & ~inside) * SPACING

    distances = cdist(surface(predicted), surface(reference))
    return distances.min(1), distances.min(0)


@pytest.mark.parametrize("seed", range(3))
def test_surfaces_agree_with_brute_force(seed: int) -> None:
    predicted, reference = two_masks(seed)
    measured = surface_distances(predicted, reference, SPACING)
    there, back = brute_force(predicted, reference)
    np.testing.assert_allclose(np.sort(measured.to_reference), np.sort(there))
    np.testing.assert_allclose(np.sort(measured.to_prediction), np.sort(back))
    assert measured.hd95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
    within = (there <= 1.0).sum() + (back <= 1.0).sum()
    assert measured.surface_dice(1.0) == pytest.approx(within / (len(there) + len(back)))


def test_the_largest_distance_agrees_with_simpleitk() -> None:
    predicted, reference = two_masks(0)
    measured = surface_distances(predicted, reference, SPACING)
    images = [SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in (predicted, reference)]
    for image in images:
        image.SetSpacing(SPACING[::-1])
    hausdorff = SimpleITK.HausdorffDistanceImageFilter()
    hausdorff.Execute(*images)
    largest = max(measured.to_reference.max(), measured.to_prediction.max())
    assert largest == pytest.approx(hausdorff.GetHausdorffDistance(), rel=1e-5)


def test_a_shift_is_measured_in_mm() -> None:
    mask = np.zeros((12, 12, 12), bool)
    mask[4:7, 4:7, 4:7] = True
    measured = surface_distances(np.roll(mask, 1, axis=0), mask, SPACING)
    assert measured.to_reference.max() == SPACING[0]
    assert measured.surface_dice(SPACING[0]) == 1 > measured.surface_dice(SPACING[0] - 0.1)
    same = surface_distances(mask, mask, SPACING)
    assert same.hd95 == 0 and same.surface_dice(0) == 1


def test_surfaces_of_nothing() -> None:
    empty, full = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
    both: SurfaceDistances = surface_distances(empty, empty, SPACING)
    assert math.isnan(both.hd95) and math.isnan(both.surface_dice(1))
    for measured in (surface_distances(empty, full, SPACING), surface_distances(full, empty, SPACING)):
        assert math.isnan(measured.hd95) and measured.surface_dice(1e9) == 0
    assert len(surface_distances(full, full, SPACING).to_reference) == 26
