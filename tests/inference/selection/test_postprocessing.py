import numpy as np
import pytest

from configs.dataset import DatasetDescription
from configs.errors import InputError
from inference.evaluation.scores import score_case
from inference.prediction.postprocessing import Postprocessing, Rule, postprocess
from inference.selection.cleaning import best_rule, choose_rules, count_components

LABELS = DatasetDescription(name="toy", channels=("MR",), labels={"background": 0, "grey": 3, "bright": 7, "ignore": 9})
SPACING = (2.0, 1.0, 0.5)
RULES = [Rule(), Rule(only_largest=True), Rule(smallest_volume=3.0), Rule(only_largest=True, smallest_volume=8.0)]


def random_labels(seed, ignored=False):
    """Blobs of both labels, and single voxels."""
    random = np.random.default_rng(seed)
    field = random.normal(size=(12, 14, 16))
    for axis in range(3):
        field = field + np.roll(field, 1, axis)
    labels = np.select([field > 3, field < -3], [3, 7], 0).astype(np.uint8)
    if ignored:
        labels[random.random(labels.shape) < 0.05] = 9
    return labels


def voxels(labels, value):
    return int(np.count_nonzero(labels == value))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(4))
def test_dice_from_counted_pieces_is_that_of_the_cleaned_labels(rule, seed):
    predicted, reference = random_labels(seed), random_labels(seed + 50, ignored=True)
    predicted[reference == 3] = 3  # so that something agrees
    counted = count_components(predicted, reference, 1.0, LABELS)
    for name in LABELS.foreground:
        cleaned = postprocess(predicted, 1.0, Postprocessing(rules={name: rule}), LABELS)
        expected = score_case(cleaned, reference, LABELS, SPACING)[name].dice
        assert counted[name].dice(rule) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
def test_other_labels_are_left_as_they_are(seed):
    predicted = random_labels(seed)
    before = predicted.copy()
    cleaned = postprocess(predicted, 1.0, Postprocessing(rules={"grey": Rule(only_largest=True)}), LABELS)
    assert np.array_equal(predicted, before)
    assert np.array_equal(cleaned == 7, predicted == 7) and voxels(cleaned, 3) < voxels(predicted, 3)
    assert cleaned.dtype == predicted.dtype and set(np.unique(cleaned[cleaned != predicted])) == {0}


def test_rules_do_nothing_where_they_should_not():
    labels = random_labels(1)
    assert np.array_equal(postprocess(labels, 1.0, Postprocessing(rules={}), LABELS), labels)
    assert np.array_equal(postprocess(labels, 1.0, Postprocessing(rules={"grey": Rule()}), LABELS), labels)
    assert np.array_equal(postprocess(labels, 2.0, Postprocessing(rules={"grey": Rule(smallest_volume=2.0)}), LABELS), labels)
    assert not np.array_equal(postprocess(labels, 2.0, Postprocessing(rules={"grey": Rule(smallest_volume=2.1)}), LABELS), labels)
    empty = np.zeros_like(labels)
    assert np.array_equal(postprocess(empty, 1.0, Postprocessing(rules={"grey": Rule(only_largest=True)}), LABELS), empty)


def test_pieces_touch_by_corners():
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[0, 0, 0] = labels[1, 1, 1] = labels[3, 3, 3] = 3
    assert voxels(postprocess(labels, 1.0, Postprocessing(rules={"grey": Rule(only_largest=True)}), LABELS), 3) == 2


def test_labels_that_the_dataset_does_not_have():
    Postprocessing(rules={"grey": Rule()}).check(LABELS)
    for name in ("pink", "background", "ignore"):
        with pytest.raises(InputError, match=f"postprocessing of `{name}`: the dataset has no such label"):
            Postprocessing(rules={name: Rule()}).check(LABELS)


def block(*corners, size=4):
    labels = np.zeros((20, 20, 20), np.uint8)
    for z, y, x in corners:
        labels[z : z + size, y : y + size, x : x + size] = 3
    return labels


def counted(predicted, reference):
    return count_components(predicted, reference, 1.0, LABELS)["grey"]


def speck(labels):
    labels[19, 19, 18:] = 3
    return labels


def test_small_false_pieces_go_by_the_gentlest_size_that_does_it():
    cases = [counted(speck(block((2, 2, index))), block((2, 2, index))) for index in range(5)]
    rule, gain = best_rule(cases)
    assert rule == Rule(smallest_volume=6.4) and gain.after == 1 and (gain.better, gain.worse) == (5, 0)


def test_large_false_pieces_go_by_keeping_the_largest():
    truth = block((2, 2, 2), size=6)
    false = block((14, 13, 5), size=6)
    false[14] = 0  # 180 voxels, more than three quarters of the smallest true piece
    cases = [counted(truth | np.roll(false, index, 2), truth) for index in range(5)]
    rule, gain = best_rule(cases)
    assert rule == Rule(only_largest=True) and gain.after == 1


def test_true_second_pieces_stay():
    truth = block((2, 2, 2), (12, 12, 12))
    assert best_rule([counted(truth, truth)] * 5)[0] == Rule()


def test_more_cases_must_gain_than_lose():
    one, two = block((2, 2, 2), size=6), block((2, 2, 2), size=6) | block((14, 14, 14))
    gains, loses = counted(two, one), counted(two, two)
    assert best_rule([gains, gains, loses])[0].only_largest
    rule, gain = best_rule([gains, loses])
    assert rule == Rule() and not gain.is_worth_it


def test_false_pieces_of_an_absent_label_count_as_a_gain():
    empty = np.zeros((20, 20, 20), np.uint8)
    true = counted(block((2, 2, 2)), block((2, 2, 2)))
    rule, gain = best_rule([true, counted(speck(empty.copy()), empty)])
    assert rule.smallest_volume > 2 and (gain.before, gain.after) == (0.5, 1)


def test_regions_have_no_rules():
    regions = DatasetDescription(
        name="toy", channels=("MR",), labels={"background": 0, "both": (1, 2), "core": (2,)}, regions_class_order=(1, 2)
    )
    assert choose_rules({}, {}, regions, 1, None) == ({}, {})
