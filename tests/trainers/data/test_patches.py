"""Where patches lie: shares, balance, borders; and a read patch is the padded volume's."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.dataset import DatasetDescription
from preprocessing.locations import find_class_locations
from trainers.data.cases import CaseInMemory
from trainers.data.patches import PatchSampler, read_image_box, read_labels_box, sampled_groups

SHAPE = (20, 24, 22)
PATCH = (8, 6, 10)


def make_case(labels: np.ndarray, seed: int = 0) -> CaseInMemory:
    image = np.random.default_rng(seed).normal(size=(2, *labels.shape)).astype(np.float32)
    return CaseInMemory(image, labels, find_class_locations(labels, "case"))


def two_classes() -> np.ndarray:
    """A class of a thousand voxels and one of a single voxel."""
    labels = np.zeros(SHAPE, np.int16)
    labels[2:12, 2:12, 2:12] = 1
    labels[16, 20, 18] = 2
    return labels


def sampler(labels: np.ndarray, batch: int = 3, share: float = 1 / 3, ignore: int | None = None) -> PatchSampler:
    return PatchSampler({"case": make_case(labels)}, PATCH, batch, share, ((1,), (2,)), ignore)


@pytest.mark.parametrize(("batch", "centred"), [(2, 1), (3, 1), (4, 1), (5, 2), (9, 3), (12, 4)])
def test_a_third_of_each_batch_is_centred_on_foreground(batch: int, centred: int) -> None:
    """nnU-Net's `round(batch * (1 - 0.33))` first patches are not; the class of one voxel shows which are."""
    labels = np.zeros(SHAPE, np.int16)
    labels[10, 12, 11] = 1
    drawn = sampler(labels, batch)
    random = np.random.default_rng(0)
    expected = tuple(voxel - size // 2 for voxel, size in zip((10, 12, 11), PATCH, strict=True))
    hits = [[drawn.draw_place(random, "case", position).start == expected for position in range(batch)] for _ in range(50)]
    always = np.all(hits, axis=0)
    assert always.tolist() == [False] * (batch - centred) + [True] * centred


def test_batches_of_one_are_centred_as_often() -> None:
    labels = np.zeros(SHAPE, np.int16)
    labels[10, 12, 11] = 1
    drawn, random = sampler(labels, batch=1), np.random.default_rng(0)
    expected = (10 - 4, 12 - 3, 11 - 5)
    share = np.mean([drawn.draw_place(random, "case", 0).start == expected for _ in range(3000)])
    assert share == pytest.approx(1 / 3, abs=0.03)


def test_classes_are_drawn_alike_whatever_their_size() -> None:
    labels = two_classes()
    drawn, random = sampler(labels, share=1.0), np.random.default_rng(0)
    contains_rare = []
    for _ in range(600):
        place = drawn.draw_place(random, "case", 2)
        contains_rare.append(2 in read_labels_box(drawn.cases["case"], place.start, PATCH))
    assert np.mean(contains_rare) == pytest.approx(0.5, abs=0.06)


def test_without_oversampling_the_rare_class_is_rare() -> None:
    """Negative control of the two laws above."""
    drawn, random = sampler(two_classes(), share=0.0), np.random.default_rng(0)
    places = (drawn.draw_place(random, "case", 2) for _ in range(600))
    contains_rare = np.mean([2 in read_labels_box(drawn.cases["case"], place.start, PATCH) for place in places])
    assert contains_rare < 0.25


def test_regions_are_drawn_alike() -> None:
    description = DatasetDescription(
        name="r", channels=("a",), labels={"background": 0, "whole": (1, 2), "core": (2,)}, regions_class_order=(1, 2)
    )
    assert sampled_groups(description) == ((1, 2), (2,))


def test_ignored_voxels_are_no_foreground_and_patches_hold_something_else() -> None:
    labels = np.full(SHAPE, 3, np.int16)
    labels[:4, :4, :4] = 0
    drawn, random = sampler(labels, ignore=3), np.random.default_rng(0)
    places = [drawn.draw_place(random, "case", position % 3) for position in range(60)]
    annotated = np.mean([(read_labels_box(drawn.cases["case"], place.start, PATCH) != 3).any() for place in places])
    blind = sampler(labels)
    places = [blind.draw_place(random, "case", position % 3) for position in range(60)]
    by_chance = np.mean([(read_labels_box(blind.cases["case"], place.start, PATCH) != 3).any() for place in places])
    assert annotated > by_chance + 0.1


def test_cases_are_drawn_alike() -> None:
    cases = {name: make_case(two_classes()) for name in "abc"}
    drawn = PatchSampler(cases, PATCH, 5, 1 / 3, ((1,), (2,)))
    random = np.random.default_rng(0)
    counts = Counter(case for _ in range(600) for case in drawn.draw_cases(random))
    assert set(counts) == set("abc")
    assert all(count == pytest.approx(1000, rel=0.1) for count in counts.values())


def test_patches_reach_every_voxel_and_never_leave_a_large_image() -> None:
    drawn, random = sampler(two_classes(), share=0.5), np.random.default_rng(0)
    starts = np.array([drawn.draw_place(random, "case", position % 3).start for position in range(3000)])
    assert starts.min(0).tolist() == [0, 0, 0]
    assert (starts + PATCH).max(0).tolist() == list(SHAPE)


def test_small_image_lies_in_the_middle_of_the_patch() -> None:
    labels = np.ones((5, 6, 3), np.int16)
    place = sampler(labels).draw_place(np.random.default_rng(0), "case", 2)
    assert place.start == (-1, 0, -3)


@settings(deadline=None)
@given(
    start=st.tuples(*[st.integers(-9, 9)] * 3),
    size=st.tuples(*[st.integers(1, 12)] * 3),
)
def test_a_read_box_is_that_of_the_padded_volume(start: tuple[int, int, int], size: tuple[int, int, int]) -> None:
    labels = np.arange(1, 6 * 5 * 4 + 1, dtype=np.int16).reshape(6, 5, 4)
    case = make_case(labels)
    box = tuple(slice(first + 30, first + 30 + length) for first, length in zip(start, size, strict=True))
    np.testing.assert_array_equal(read_labels_box(case, start, size), np.pad(labels, 30)[box])
    np.testing.assert_array_equal(
        read_image_box(case, start, size), np.pad(case.image, [(0, 0), *[(30, 30)] * 3])[(slice(None), *box)]
    )


def test_drawing_for_each_patch_centres_as_many_at_every_position() -> None:
    labels = np.zeros(SHAPE, np.int16)
    labels[10, 12, 11] = 1
    drawn = PatchSampler({"case": make_case(labels)}, PATCH, 4, 1 / 3, ((1,),), probabilistic=True)
    random = np.random.default_rng(0)
    expected = (10 - 4, 12 - 3, 11 - 5)
    hits = [[drawn.draw_place(random, "case", position).start == expected for position in range(4)] for _ in range(1500)]
    assert np.mean(hits, axis=0) == pytest.approx([1 / 3] * 4, abs=0.05)


def test_weights_of_classes() -> None:
    def share_of_rare(weights: tuple[float, float]) -> float:
        drawn = PatchSampler({"case": make_case(two_classes())}, PATCH, 3, 1.0, ((1,), (2,)), weights=weights)
        random = np.random.default_rng(0)
        places = (drawn.draw_place(random, "case", 2) for _ in range(600))
        return float(np.mean([2 in read_labels_box(drawn.cases["case"], place.start, PATCH) for place in places]))

    assert share_of_rare((1, 3)) == pytest.approx(0.75, abs=0.06)
    assert share_of_rare((1, 0)) < 0.1
    assert share_of_rare((0, 1)) == 1
