"""The calibration finds the map that made its samples, never trusts more for more doubt, and is honest about its errors."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from pydantic import ValidationError

from configs.plan import LabelRange, SizeRange
from inference.sizes.calibrate import Trial, calibrate, search_pays
from inference.sizes.calibration import Calibration, Evidence, Sample, expect, expected_mean, factors_of, fit, residual
from inference.sizes.measure import LookedAt, Looks, sizes_to_try
from inference.sizes.quality import judge
from inference.sizes.search import uncalibrated

LABELS = ("a", "b")
RANGE = SizeRange(low=0.8, high=1.25, labels={"a": LabelRange(diameter=20, octaves=0.2), "b": LabelRange(diameter=10)})
SLOPES, CONSTANTS = (0.4, 0.3, 0.8), (0.1, -0.2)


def drawn(cases: int, noise: float = 0.0, seed: int = 0) -> list[Sample]:
    """Samples that follow the map with these constants and slopes."""
    random = np.random.default_rng(seed)
    samples = []
    for case in range(cases):
        for _ in range(12):
            expected, agreed = random.uniform(0.5, 0.98, 2), random.uniform(0.3, 0.98, 2)
            diameters = np.array([20 * 2 ** random.uniform(-1, 1), 10.0])
            beyond = np.array([max(0.0, abs(math.log2(diameters[0] / 20)) - 0.2), 0.0])
            logs = np.array(CONSTANTS) + np.log(1 - expected) * SLOPES[0] + np.log(1 - agreed) * SLOPES[1] + beyond * SLOPES[2]
            dice = 1 - np.exp(np.minimum(0, logs + random.normal(0, noise, 2)))
            samples.append(Sample(case, 1.0, 1.0, Evidence(expected, agreed, diameters), dice))
    return samples


def test_the_map_that_made_the_samples_is_found() -> None:
    found = fit(drawn(60), LABELS, RANGE.labels, agreement=True)
    assert found.slopes == pytest.approx(SLOPES, abs=0.06)
    assert found.constants == pytest.approx(CONSTANTS, abs=0.15)
    assert fit(drawn(60), LABELS, RANGE.labels, agreement=False).slopes[1] == 0


def test_the_interval_holds_ninety_percent_of_new_cases() -> None:
    found = fit(drawn(40, noise=0.3), LABELS, RANGE.labels, agreement=True)
    made = uncalibrated(LABELS, RANGE).model_copy(update={"second": found})
    inside = []
    for sample in drawn(200, noise=0.3, seed=1):
        for value, truth in zip(expect(made, sample.evidence).values(), sample.dice, strict=True):
            assert value is not None
            inside.append(value.low <= truth <= value.high)
    assert 0.86 < np.mean(inside) < 0.94


def test_more_doubt_never_means_a_better_answer() -> None:
    random = np.random.default_rng(3)
    contrary = [  # the surer, the worse
        Sample(case, 1.0, 1.0, Evidence(np.full(2, sure), np.full(2, sure), np.full(2, 20.0)), np.full(2, 1 - sure))
        for case in range(8)
        for sure in random.uniform(0.3, 0.95, 5)
    ]
    assert min(fit(contrary, LABELS, RANGE.labels, agreement=True).slopes) >= 0


def test_a_label_that_is_missing_counts_only_where_every_case_has_it() -> None:
    made = uncalibrated(LABELS, RANGE).model_copy(update={"always": (True, False)})
    found = expect(made, Evidence(np.zeros(2), None, np.zeros(2)))
    assert found["b"] is None and found["a"] is not None and found["a"].dice == 0
    assert expected_mean(found) == 0
    assert any("a was not found" in doubt for doubt in judge(made, Evidence(np.zeros(2), None, np.zeros(2)), 1.0).doubts)


def test_sizes_outside_of_training_are_doubted() -> None:
    made = uncalibrated(LABELS, RANGE).model_copy(update={"usual": 0.5})
    usual = Evidence(np.full(2, 0.9), None, np.array([20.0, 10.0]))
    assert judge(made, usual, 1.0).doubts == ()
    (doubt,) = judge(made, Evidence(np.full(2, 0.9), None, np.array([20.0, 10.0])), 0.5).doubts
    assert "a has a diameter of 40 mm, where 16 to 25 mm are expected" in doubt
    (doubt,) = judge(made, Evidence(np.full(2, 0.3), None, np.array([20.0, 10.0])), 1.0).doubts
    assert "the expected mean Dice 0.30 is below 0.50" in doubt


def test_sizes_that_the_network_found_in_validation_cases_are_not_doubted() -> None:
    """A network that finds half of a structure everywhere is told by the expected Dice, not by every case."""

    def half_of_a(look: LookedAt) -> LookedAt:
        return look.model_copy(update={"diameters": (look.diameters[0] / 2, look.diameters[1])})

    every = looks(6, 1.0)
    halved = every.model_copy(update={"cases": tuple(tuple(map(half_of_a, case)) for case in every.cases)})
    for known, is_doubted in ((every, True), (halved, False)):
        made = calibrate([known], RANGE)
        assert made is not None
        doubts = judge(made, Evidence(np.full(2, 0.95), None, np.array([10.0, 10.0])), 1.0).doubts
        assert any("a has a diameter of 10 mm" in doubt for doubt in doubts) is is_doubted


def test_factors_lie_within_the_range_and_about_one() -> None:
    assert factors_of(SizeRange(low=0.8, high=1.25)) == pytest.approx([0.8, 1.0, 1.25])
    wide = factors_of(SizeRange(low=0.5, high=2.0))
    assert 1.0 in wide and wide[0] >= 0.5 and wide[-1] <= 2.0 and len(wide) == 7
    assert factors_of(SizeRange(low=1, high=1)) == [1.0]
    assert sizes_to_try(RANGE) == pytest.approx([0.64, 0.8, 1.0, 1.25, 1.5625])
    assert sizes_to_try(SizeRange(low=0.5, high=2.0)) == pytest.approx(wide)
    assert max(sizes_to_try(SizeRange(low=0.25, high=4.0))) == pytest.approx(1.25**6)


def looks(cases: int, best: float, indifferent: bool = False, seed: int = 0) -> Looks:
    """Looks at cases that are segmented best where the network sees them at the factor `best` of their size of training."""
    random = np.random.default_rng(seed)

    def row(size: float, factor: float, offset: float) -> LookedAt:
        off = abs(math.log2(size * factor / best))
        dice = min(0.95, max(0.02, 0.9 - 0.5 * off + offset))
        sure = 0.93 - 0.2 * off
        if indifferent:
            dice, sure = 0.9 + offset, 0.9
        agreed = sure - 0.05
        return LookedAt(
            size=size,
            factor=factor,
            expected=(sure, sure),
            agreement=(agreed, agreed),
            diameters=(20 * size * factor, 10 * size * factor),
            dice=(dice, dice),
        )

    def one_case() -> Iterator[LookedAt]:
        offset = float(random.normal(0, 0.02))
        for size in sizes_to_try(RANGE):
            yield from (row(size, factor, offset) for factor in factors_of(RANGE))

    return Looks(
        labels=LABELS, weights="w", cases=tuple(tuple(one_case()) for _ in range(cases)), present=((True, True),) * cases
    )


def test_what_is_expected_of_answers_does_not_suffer_from_bad_looks() -> None:
    """Looks at wrong sizes vary much from case to case; the search does not end there, so that its interval need not hold them."""

    def unsteady(case: int, look: LookedAt) -> LookedAt:
        off = abs(math.log2(look.size * look.factor))
        return (
            look
            if off < 0.4
            else look.model_copy(update={"dice": tuple((0.4, 1.2)[case % 2] * dice for dice in look.dice if dice)})
        )

    steady = looks(8, 1.0)
    cases = tuple(tuple(unsteady(number, look) for look in case) for number, case in enumerate(steady.cases))
    known = steady.model_copy(update={"cases": cases})
    made = calibrate([known], RANGE)
    assert made is not None and made.searches
    answers = [
        sample
        for sample in known.samples()
        if sample.size != 1 and sample.size * sample.factor == pytest.approx(1) and sample.factor != 1
    ]
    all_looks = fit(known.samples(), LABELS, RANGE.labels, agreement=True)
    here, before = (
        abs(np.mean([residual(one, sample, LABELS, RANGE.labels) for sample in answers])) for one in (made.second, all_looks)
    )
    assert here < 0.8 * before
    assert made.second.above + made.second.below < 0.6 * (all_looks.above + all_looks.below)


def test_the_search_is_on_where_validation_cases_show_that_it_pays() -> None:
    made = calibrate([looks(6, 1.0)], RANGE)
    assert made is not None and made.searches and made.cases == 6
    assert "on validation cases the search of the size changes the mean Dice by" in made.reason
    assert made.error < 0.1 and made.margin >= 0.01 and 0.7 < made.usual < 1


@pytest.mark.parametrize(("finders", "is_usual"), [(0, True), (1, True), (5, False)])
def test_a_missing_label_is_no_doubt_where_the_network_misses_it_in_most_validation_cases(finders: int, is_usual: bool) -> None:
    """Else every case of a network that never learned a label would be among those to look at first."""

    def without_b(look: LookedAt) -> LookedAt:
        return look.model_copy(
            update={"diameters": (look.diameters[0], 0.0), "expected": (look.expected[0], 0.0), "dice": (look.dice[0], 0.0)}
        )

    every = looks(6, 1.0)
    cases = every.cases[:finders] + tuple(tuple(map(without_b, case)) for case in every.cases[finders:])
    made = calibrate([every.model_copy(update={"cases": cases})], RANGE)
    assert made is not None and made.is_missed(1) is is_usual and not made.is_missed(0)
    like_training = Evidence(np.array([0.93, 0.0]), None, np.array([20.0, 0.0]))
    assert any("b was not found" in doubt for doubt in judge(made, like_training, 1.0).doubts) is not is_usual
    assert any("a was not found" in doubt for doubt in judge(made, Evidence(np.zeros(2), None, np.zeros(2)), 1.0).doubts)


def test_the_search_is_off_where_nothing_is_gained() -> None:
    made = calibrate([looks(6, 1.0, indifferent=True)], RANGE)
    assert made is not None and not made.searches


@pytest.mark.parametrize(
    ("natural", "changed", "pays"),
    [
        ((0.0, 0.0), (0.1, 0.2), True),
        ((-0.003, -0.003), (0.1, 0.2), False),
        ((-0.06, 0.1), (0.1, 0.2), False),
        ((0.0, 0.0), (0.001, 0.002), False),
    ],
)
def test_the_search_must_not_harm_at_natural_size_and_must_gain_at_others(
    natural: tuple[float, ...], changed: tuple[float, ...], pays: bool
) -> None:
    trials = [Trial(size, 0.8, 0.8, 0.8 + gain) for size, gains in ((1.0, natural), (0.8, changed)) for gain in gains]
    assert search_pays(trials)[0] is pays


def test_too_few_cases_are_not_calibrated_and_folds_add_up() -> None:
    assert calibrate([looks(3, 1.0)], RANGE) is None
    together = calibrate([looks(2, 1.0), looks(2, 1.0, seed=1)], RANGE)
    assert together is not None and together.cases == 4


def test_the_file_comes_back_and_is_checked(tmp_path) -> None:  # type: ignore[no-untyped-def]
    made = calibrate([looks(5, 1.0)], RANGE)
    assert made is not None
    made.write(tmp_path / "calibration.json")
    assert Calibration.read(tmp_path / "calibration.json") == made
    with pytest.raises(ValidationError, match="needs its constants"):
        Calibration.model_validate(made.model_dump() | {"always": [True]})
    with pytest.raises(ValidationError):
        SizeRange(low=1e-9, high=1), "a search of thousands of sizes"


def test_reflections_make_the_answer_better_than_the_looks() -> None:
    """Looks are taken without reflections, for cheapness; what these gain on validation cases is expected of answers that have them."""
    found = looks(9, 1.0)
    singles = [next(one.dice for one in case if one.size == one.factor == 1) for case in found.cases]
    mirrored = tuple(tuple(1 - 0.8 * (1 - value) for value in dice if value is not None) for dice in singles)
    plain, better = calibrate([found], RANGE), calibrate([found.model_copy(update={"mirrored": mirrored})], RANGE)
    assert plain is not None and better is not None
    assert plain.mirroring == 0 and better.mirroring == pytest.approx(math.log(0.8) * 9 / 10)
    (case, *_) = found.samples()
    for mirror, change in ((False, 1.0), (True, math.exp(better.mirroring))):
        one, other = judge(plain, case.evidence, 1.0, mirror), judge(better, case.evidence, 1.0, mirror)
        assert 1 - other.mean == pytest.approx(change * (1 - one.mean))
        assert len(other.doubts) == len(one.doubts), "what is doubtful does not depend on it"


def test_cases_that_are_looked_at_as_they_are_tell_how_hard_a_usual_case_is() -> None:
    """The few cases in all sizes are easier here than the others; what is expected of a usual image follows all of them."""
    few, many = looks(4, 1.0), looks(40, 1.0, seed=1)
    harder = [
        tuple(
            one.model_copy(update={"dice": tuple(0.9 * dice for dice in one.dice)}) for one in case if one.size == one.factor == 1
        )
        for case in many.cases
    ]
    both = few.model_copy(update={"cases": (*few.cases, *harder), "present": ((True, True),) * 44})
    alone, known = calibrate([few], RANGE), calibrate([both], RANGE)
    assert alone is not None and known is not None and known.cases == 44 and known.searches == alone.searches
    usual = next(sample.evidence for sample in few.samples() if sample.size == sample.factor == 1)
    as_it_is = Evidence(usual.expected, None, usual.diameters)
    truth = np.mean([one.dice for (one,) in harder])
    errors = [abs(expected_mean(expect(made, as_it_is)) - truth) for made in (known, alone)]
    assert errors[0] < 0.02 < 0.05 < errors[1]
    assert known.first.slopes == alone.first.slopes
