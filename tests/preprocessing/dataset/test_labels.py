import tracemalloc
import zlib

import numpy as np
import pytest

from configs.dataset import DatasetDescription
from configs.errors import InputError
from inference.evaluation.robustness import stored_values
from preprocessing.dataset.labels import present_values, to_class_indices, unknown_values
from preprocessing.locations import find_class_locations

GAPS = DatasetDescription(name="gaps", channels=("MR",), labels={"background": 0, "b": 500, "a": 20, "ignore": 7})


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int64, np.uint64])
def test_any_values_are_mapped_and_restored(dtype):
    values = np.array([[0, 20], [500, 7]], dtype=dtype)
    indices = to_class_indices(values, GAPS)
    assert indices.dtype == np.int16 and indices.tolist() == [[0, 1], [2, 3]]
    assert GAPS.ignore_index == 3
    assert np.array_equal(stored_values(indices, GAPS), values)


def test_unknown_values_are_named():
    values = np.array([0, 20, 3, 8])
    assert unknown_values(values, GAPS) == [3, 8]
    with pytest.raises(InputError, match=r"does not name the label values 3, 8 \(it names 0, 7, 20, 500\)"):
        to_class_indices(values, GAPS)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32])
def test_present_values(dtype):
    low = 0 if dtype == np.uint8 else -3
    assert present_values(np.array([[5, low], [5, 100]], dtype=dtype)) == [low, 5, 100]


def test_locations_lie_on_their_class_and_are_bounded():
    labels = np.random.default_rng(0).integers(0, 4, (20, 21, 22)).astype(np.int16)
    labels[labels == 2] = 0
    locations = find_class_locations(labels, "case", most=50)
    assert list(locations) == [1, 3]
    for index, voxels in locations.items():
        assert voxels.shape == (50, 3) and (labels[tuple(voxels.T)] == index).all()
        assert len(np.unique(voxels, axis=0)) == 50
    again = find_class_locations(labels, "case", most=50)
    other = find_class_locations(labels, "another", most=50)
    assert np.array_equal(again[1], locations[1]) and not np.array_equal(other[1], locations[1])
    everything = find_class_locations(labels, "case", most=10**6)
    assert len(everything[1]) == (labels == 1).sum()
    assert find_class_locations(np.zeros((2, 2, 2), np.int16), "case") == {}


@pytest.mark.parametrize("part", [1, 7, 1000, 10**6])
def test_parts_change_nothing(part):
    """What is looked up part by part is what the whole array gives at once."""
    random = np.random.default_rng(1)
    values = random.choice([0, 20, 500, 7], (9, 10, 11), p=[0.6, 0.2, 0.1, 0.1]).astype(np.uint16)
    indices = to_class_indices(values, GAPS, part)
    assert np.array_equal(indices, np.vectorize({0: 0, 20: 1, 500: 2, 7: 3}.get)(values))
    far = DatasetDescription(name="far", channels=("MR",), labels={"background": 0, "a": 2**30, "b": 7})
    assert to_class_indices(np.array([[7, 2**30], [0, 7]]), far, part).tolist() == [[1, 2], [0, 1]]
    for most in (5, 50, 10**6):
        found = find_class_locations(indices, "case", most, part)
        expected = locations_at_once(indices, "case", most)
        assert list(found) == list(expected) == [1, 2, 3]
        assert all(np.array_equal(found[index], expected[index]) and found[index].dtype == np.int32 for index in found)


def locations_at_once(labels, identifier, most):
    """The plain definition: all voxels of a class in order, of which some are drawn."""
    random = np.random.default_rng(zlib.crc32(identifier.encode()))
    found = {}
    for index in np.unique(labels[labels > 0]):
        voxels = np.flatnonzero(labels == index)
        voxels = np.sort(random.choice(voxels, most, replace=False)) if len(voxels) > most else voxels
        found[int(index)] = np.stack(np.unravel_index(voxels, labels.shape), axis=1)
    return found


def test_memory_for_locations_does_not_grow_with_the_volume():
    """An index of every labelled voxel would take eight bytes, several times over."""
    labels = np.ones((40, 160, 160), np.int16)
    tracemalloc.start()
    find_class_locations(labels, "case", part=2**14)
    to_class_indices(labels, DatasetDescription(name="x", channels=("MR",), labels={"background": 0, "b": 2, "a": 1}), 2**14)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * labels.nbytes + 2**21  # the class indices, and the comparison for values that are not named
