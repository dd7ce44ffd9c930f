"""Make the calibration of a model from the looks of its folds, and decide on validation cases whether the search of the size pays.

Every fold adds the looks at its own validation cases. What the search would do with a case is computed from these looks, with a map that
is fitted without that case.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from configs.plan import SizeRange
from inference.engine.sums import Numbers
from inference.sizes.calibration import (
    LEAST,
    Calibration,
    Evidence,
    Sample,
    expect,
    expected_mean,
    fit,
    residual,
    right_on,
    with_interval,
)
from inference.sizes.measure import Looks
from inference.sizes.search import FoundSize, find_factor, uncalibrated

logger = logging.getLogger(__name__)
FEWEST_CASES = 4  # with fewer, nothing is calibrated
LOSS = 0.002  # largest loss of mean Dice at natural size
LOSS_OF_A_CASE = 0.05  # largest loss of one case at natural size
GAIN = 0.005  # least gain over the other sizes
FALSE_ALARMS = 0.05  # share of the looks at factors that are not better which the search may take all the same
CAUTION = 1.0  # cases without a gain by reflections that are added to those that were measured
LEAST_MARGIN = 0.01  # of the expected gain
FEWEST_ANSWERS = 20  # labels in answers of the search, from which an interval is made
USUAL = 0.05  # share of validation cases at natural size that are searched all the same


def calibrate(folds: Sequence[Looks], sizes: SizeRange) -> Calibration | None:
    """Return the calibration of a model, or None where its folds have fewer than four validation cases or found nothing."""
    samples, present, gains = list[Sample](), list[tuple[bool, ...]](), list[float]()
    for looks in folds:
        samples += looks.samples(len(present))
        present += looks.present
        gains += _gains_by_reflections(looks)
    every = _in_every_size(samples)
    if len(present) < FEWEST_CASES or not any(sample.evidence.found.any() for sample in samples if sample.case in every):
        return None
    labels = folds[0].labels
    whole = _fitted(samples, labels, sizes, np.all(present, axis=0).tolist())
    trials = [trial for case in every for trial in _without(case, whole, samples)]
    others = [trial for case in range(len(present)) if case not in every for trial in _without(case, whole, samples)]
    natural = [trial for trial in (*trials, *others) if trial.size == 1]
    of_answers = [one for trial in (*trials, *others) if trial.searched for one in trial.residuals if not np.isnan(one)]
    if len(of_answers) >= FEWEST_ANSWERS:
        whole = whole.model_copy(update={"second": with_interval(whole.second, of_answers)})
    searches, reason = search_pays(trials)
    return whole.model_copy(
        update={
            "error": _mean([abs(trial.expected - trial.dice) for trial in trials]),
            "error_as_it_is": _mean([abs(trial.expected - trial.dice) for trial in natural]),
            "mirroring": math.fsum(gains) / (len(gains) + CAUTION),
            "searches": searches,
            "reason": reason,
            "cases": len(present),
            "points": tuple((trial.size, round(trial.expected, 4), round(trial.dice, 4)) for trial in (*trials, *others)),
        }
    )


def _in_every_size(samples: Sequence[Sample]) -> list[int]:
    """Return the cases that were looked at in several sizes, which tell what the search would do; all cases where there are none."""
    sizes: dict[int, set[float]] = {}
    for sample in samples:
        sizes.setdefault(sample.case, set()).add(sample.size)
    return [case for case, seen in sizes.items() if len(seen) > 1] or list(sizes)


def _gains_by_reflections(looks: Looks) -> Iterator[float]:
    """Yield for each case the mean change of log(1 - Dice) over its labels by averaging over reflections."""
    for case, mirrored in zip(looks.cases, looks.mirrored, strict=False):
        single = next(one.dice for one in case if one.size == 1 and one.factor == 1)
        changes = [
            math.log(max(1 - after, LEAST) / max(1 - before, LEAST))
            for before, after in zip(single, mirrored, strict=True)
            if before is not None and after is not None
        ]
        if changes:
            yield math.fsum(changes) / len(changes)


@dataclass(frozen=True)
class Trial:
    """What would happen to a validation case at one size of its anatomy."""

    size: float
    expected: float  # mean Dice that is expected of the image as it is
    dice: float  # true mean Dice of the image as it is
    found: float  # true mean Dice with the search
    expected_found: float = 0.0  # mean Dice that is expected with the search
    searched: bool = False  # whether more than the first look was needed
    residuals: Numbers = field(default_factory=lambda: np.zeros(0))  # of the answer's expected Dice, label by label


def _fitted(samples: Sequence[Sample], labels: Sequence[str], sizes: SizeRange, always: Sequence[bool]) -> Calibration:
    """Return a calibration whose errors at whole cases are not known yet."""
    as_they_are = [sample for sample in samples if sample.factor == 1]
    every = set(_in_every_size(samples))
    natural = [sample for sample in as_they_are if sample.size == 1]
    first = fit([sample for sample in as_they_are if sample.case in every], labels, sizes.labels, agreement=False)
    second = fit([sample for sample in samples if sample.case in every], labels, sizes.labels, agreement=True)
    first, second = (right_on(one, natural, labels, sizes.labels) for one in (first, second))
    made = uncalibrated(labels, sizes).model_copy(update={"always": tuple(always), "first": first, "second": second})
    usual = [expected_mean(expect(made, _alone(sample.evidence))) for sample in natural]
    made = made.model_copy(
        update={
            "missed": _missed(natural),
            "seen": _seen(natural),
            "usual": float(np.quantile(usual, USUAL)),
            "margin": _margin(made, samples),
        }
    )
    return _right_on_answers(made, [sample for sample in samples if sample.case in every])


def _right_on_answers(known: Calibration, samples: Sequence[Sample]) -> Calibration:
    """Return the calibration whose map with agreement has no mean residual on the answers of searches.

    The map was fitted on all looks, good and bad. The search ends at good ones, where a fit to all is too careful.
    """
    answers = []
    for case in dict.fromkeys(sample.case for sample in samples):
        for looks in _by_size([sample for sample in samples if sample.case == case]).values():
            found = _search(known, looks)
            answers += [looks[found.factor]] if found.searched else []
    made = known.model_copy(update={"second": right_on(known.second, answers, known.labels, known.sizes.labels)})
    return made.model_copy(update={"margin": _margin(made, samples)})


def _seen(natural: Sequence[Sample]) -> tuple[tuple[float, float], ...]:
    """Return the least and the largest diameter that the network found of each label, mm."""
    diameters = [
        [one for one in of_label if one > 0] for of_label in zip(*(sample.evidence.diameters for sample in natural), strict=True)
    ]
    return tuple((min(found, default=0.0), max(found, default=0.0)) for found in diameters)


def _missed(natural: Sequence[Sample]) -> tuple[bool, ...]:
    """Return for each label whether the network misses it in most of the cases that have it."""
    found = np.array([sample.evidence.found for sample in natural])
    has_it = np.array([~np.isnan(sample.dice) for sample in natural]) | found  # a Dice is defined where a label is in either
    return tuple((2 * found.sum(0) < has_it.sum(0)).tolist())


def _margin(known: Calibration, samples: Sequence[Sample]) -> float:
    """Return the expected gain over factor 1 that 95 % of the looks at other factors stay below which are not better in truth."""
    usable = [sample for sample in samples if not np.isnan(sample.dice).all()]
    expected = {(one.case, one.size, one.factor): expected_mean(expect(known, one.evidence)) for one in usable}
    dice = {(one.case, one.size, one.factor): float(np.nanmean(one.dice)) for one in usable}
    pairs = [(moved, (moved[0], moved[1], 1.0)) for moved in dice if moved[2] != 1]
    not_better = [expected[moved] - expected[still] for moved, still in pairs if still in dice and dice[moved] <= dice[still]]
    return max(LEAST_MARGIN, float(np.quantile(not_better, 1 - FALSE_ALARMS))) if not_better else LEAST_MARGIN


def _without(case: int, whole: Calibration, samples: Sequence[Sample]) -> list[Trial]:
    """Return what would happen to a case with a calibration that does not know it."""
    others = [sample for sample in samples if sample.case != case]
    every = set(_in_every_size(others))
    if not any(sample.evidence.found.any() for sample in others if sample.case in every):
        return []
    known = _fitted(others, whole.labels, whole.sizes, whole.always)
    own = [sample for sample in samples if sample.case == case]
    return try_case(known, own)


def try_case(known: Calibration, samples: Sequence[Sample]) -> list[Trial]:
    """Return what would happen to a case at each size of its anatomy, given the looks at it; sizes without any label are left out."""
    return [trial for size, looks in _by_size(samples).items() if (trial := _tried(known, looks, size)) is not None]


def _by_size(samples: Sequence[Sample]) -> dict[float, dict[float, Sample]]:
    """Return the looks at one case by size of its anatomy and by factor."""
    return {size: {one.factor: one for one in samples if one.size == size} for size in sorted({one.size for one in samples})}


def _search(known: Calibration, looks: Mapping[float, Sample]) -> FoundSize:
    """Return what the search finds, given the looks at each factor; factors that were not looked at show nothing."""
    first = _alone(looks[1.0].evidence)
    return find_factor(known, first, lambda factor: looks[factor].evidence if factor in looks else _nothing(first))


def _tried(known: Calibration, looks: Mapping[float, Sample], size: float) -> Trial | None:
    found = _search(known, looks)
    natural, answer = looks[1.0], looks[found.factor]
    if np.isnan(natural.dice).all() or np.isnan(answer.dice).all():
        return None
    return Trial(
        size,
        expected=expected_mean(expect(known, _alone(natural.evidence))),
        dice=float(np.nanmean(natural.dice)),
        found=float(np.nanmean(answer.dice)),
        expected_found=expected_mean(expect(known, found.evidence)),
        searched=found.searched,
        residuals=residual(known.second, answer, known.labels, known.sizes.labels),
    )


def _nothing(like: Evidence) -> Evidence:
    """Return the evidence of a look that was not made, at a size far from all that are planned."""
    return Evidence(np.zeros_like(like.expected), np.zeros_like(like.expected), np.zeros_like(like.expected))


def search_pays(trials: Sequence[Trial]) -> tuple[bool, str]:
    """Return whether the search pays, and why."""
    natural = [trial.found - trial.dice for trial in trials if trial.size == 1]
    changed = [trial.found - trial.dice for trial in trials if trial.size != 1]
    if not natural or not changed:
        return False, "no label occurs in the validation cases"
    measured = (
        f"on validation cases the search of the size changes the mean Dice by {_mean(natural):+.4f} at natural size (worst case "
        f"{min(natural):+.4f}) and by {_mean(changed):+.4f} at other sizes"
    )
    pays = _mean(natural) >= -LOSS and min(natural) >= -LOSS_OF_A_CASE and _mean(changed) >= GAIN
    return pays, measured


def _alone(evidence: Evidence) -> Evidence:
    return replace(evidence, agreement=None)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0
