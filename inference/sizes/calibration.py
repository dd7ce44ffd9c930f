"""What a model's validation cases tell of its expectations: the map from what a network shows to the Dice that it reaches.

A look at an image shows, for each label, the Dice e that the network expects of itself, the agreement a with its answer at the next smaller
size, and the distance u in octaves of the found size from the sizes of training, as far as it lies outside of them. The map is

    log(1 - Dice) = c + s_1 log(1 - e) + s_2 log(1 - a) + s_3 u,     s >= 0,

with a constant c for each label: few parameters, since there are few validation cases, and monotone, so that more doubt never means a
better answer. It is fitted by least squares on validation cases whose anatomy was made smaller and larger.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from configs.files import Value
from configs.plan import LabelRange, SizeRange
from inference.engine.sums import Numbers

STEP = 1.25  # ratio of the sizes that are looked at
WIDEST = SizeRange(low=0.5, high=2.0)  # for plans of earlier versions, which have no range
LEVEL = 0.9  # probability that the interval holds the Dice
LEAST = 0.005  # smallest 1 - Dice, so that its logarithm stays finite
_PRIOR = (0.5, 0.5, 1.0)  # slopes that few cases are drawn towards
_PRIOR_WEIGHT = 1.0  # cases that this counts as


@dataclass(frozen=True)
class Evidence:
    """What a look at an image at one size shows of each label."""

    expected: Numbers  # Dice that the network expects (labels,)
    agreement: Numbers | None  # with the answer at the next smaller size (labels,); None where there was no such look
    diameters: Numbers  # mm, as the network saw them (labels,); 0 where nothing was found

    @property
    def found(self) -> NDArray[np.bool_]:
        """Whether each label was found."""
        return self.diameters > 0


class Map(Value):
    """The fitted map."""

    constants: tuple[float, ...]  # of each label
    slopes: tuple[
        float, float, float
    ]  # of the expected Dice, the agreement and the distance; that of the agreement is 0 without it
    below: float  # distance in log(1 - Dice) from the fit to the lower end of the interval of (1 - Dice)
    above: float  # to the upper end


class Calibration(Value):
    """Content of `calibration.json` in the folder of a fold."""

    labels: tuple[str, ...]  # labels or regions, in the network's order
    always: tuple[bool, ...]  # whether every validation case has the label
    missed: tuple[bool, ...] = ()  # whether the network misses it in most validation cases as they are; empty in earlier versions
    seen: tuple[tuple[float, float], ...] = ()  # mm, least and largest diameter found in these; 0 and 0 where nothing was found
    sizes: SizeRange  # sizes to expect, from the plan
    first: Map  # for the image as it is, without a further look
    second: Map  # with the agreement of a further look
    usual: float  # expected mean Dice above which the answer at natural size is as good as in validation, and no size is searched
    error: float  # mean absolute error of the expected mean Dice of a case as it is over all sizes, cross-validated over cases
    error_as_it_is: float  # the same at natural size
    mirroring: float = 0.0  # change of log(1 - Dice) by the reflections that a look does without
    margin: float  # expected gain above which the search leaves natural size
    searches: bool  # whether the search of the size is on by default
    reason: str  # what decided it
    cases: int  # number of validation cases
    networks: dict[str, str] = Field(default_factory=dict)  # SHA-256 of the network's weights, by fold
    points: tuple[tuple[float, float, float], ...] = Field(
        default=()
    )  # size of the anatomy, expected and true mean Dice of a case

    @model_validator(mode="after")
    def _counts_agree(self) -> "Calibration":
        counts = {len(self.labels), len(self.always), len(self.first.constants), len(self.second.constants)}
        counts |= {len(values) for values in (self.missed, self.seen) if values}
        if len(counts) != 1:
            raise ValueError(f"every one of the {len(self.labels)} labels needs its constants")
        return self

    def is_missed(self, position: int) -> bool:
        """Return whether the network misses the label at this position in most validation cases, so that a new case without it is usual."""
        return bool(self.missed) and self.missed[position]


@dataclass(frozen=True)
class Expected:
    """Expected Dice of one label with the interval that holds it with 90 % probability."""

    dice: float
    low: float
    high: float


def factors_of(sizes: SizeRange) -> list[float]:
    """Return the factors of an image's size to search, in steps of 1.25 about 1: anatomy of 0.5 times its size needs 2."""
    return steps_between(1 / sizes.high, 1 / sizes.low)


def steps_between(low: float, high: float) -> list[float]:
    """Return the powers of 1.25 from `low` to `high`, which hold 1."""
    first, last = (math.log(limit, STEP) for limit in (low, high))
    return [STEP**step for step in range(math.ceil(first - 1e-3), math.floor(last + 1e-3) + 1)]


def expect(calibration: Calibration, evidence: Evidence, mirror: bool = False) -> dict[str, Expected | None]:
    """Return the expected Dice of each label; None for one that was not found and that validation cases may lack too.

    `mirror` tells that the answer is averaged over reflections, which the looks are not.
    """
    chosen = calibration.first if evidence.agreement is None else calibration.second
    logs = np.array(chosen.constants) + _shown(evidence, calibration.labels, calibration.sizes.labels) @ np.array(chosen.slopes)
    logs += calibration.mirroring * mirror
    found: dict[str, Expected | None] = {}
    for label, value, is_found, always in zip(calibration.labels, logs, evidence.found, calibration.always, strict=True):
        if is_found:
            worst, middle, best = (_dice(float(value) + shift) for shift in (chosen.above, 0.0, -chosen.below))
            found[label] = Expected(middle, worst, best)
        else:
            found[label] = Expected(0.0, 0.0, 0.0) if always else None
    return found


def missing_labels(calibration: Calibration, evidence: Evidence) -> list[str]:
    """Return the labels that were not found, although every validation case has them and the network finds them in most."""
    return [
        label
        for position, (label, found) in enumerate(zip(calibration.labels, evidence.found, strict=True))
        if calibration.always[position] and not found and not calibration.is_missed(position)
    ]


def expected_mean(expected: Mapping[str, Expected | None]) -> float:
    """Return the expected mean Dice of a case over the labels that count; 0 where none does."""
    values = [one.dice for one in expected.values() if one is not None]
    return math.fsum(values) / len(values) if values else 0.0


@dataclass(frozen=True)
class Sample:
    """Evidence of one look at a validation case, and the truth."""

    case: int  # number of the case
    size: float  # factor by which the anatomy was made larger
    factor: float  # factor of the image's size at which the network looked
    evidence: Evidence
    dice: Numbers  # true Dice (labels,); NaN where the label is in neither


def fit(samples: Sequence[Sample], labels: Sequence[str], ranges: Mapping[str, LabelRange], agreement: bool) -> Map:
    """Fit the map on the samples, with the interval from residuals that are cross-validated over cases.

    Raises:
        ValueError: no sample has a label that was found.
    """
    table = _Table.of(samples, labels, ranges, agreement)
    constants, slopes = table.solve(np.ones(len(table.truth), dtype=bool))
    slopes[1] *= agreement
    residuals = np.concatenate([table.residuals(table.cases == case) for case in np.unique(table.cases)])
    first, second, third = slopes.tolist()
    return with_interval(Map(constants=tuple(constants.tolist()), slopes=(first, second, third), below=0, above=0), residuals)


def right_on(known: Map, samples: Sequence[Sample], labels: Sequence[str], ranges: Mapping[str, LabelRange]) -> Map:
    """Return the map with constants such that it has no mean residual on these samples."""
    residuals = np.array([residual(known, sample, labels, ranges) for sample in samples]).reshape(-1, len(labels))
    shifts = [_mean(of_label) for of_label in residuals.T]
    return known.model_copy(update={"constants": tuple(np.add(known.constants, shifts).tolist())})


def with_interval(known: Map, residuals: Sequence[float] | Numbers) -> Map:
    """Return the map with the interval that holds 90 % of these residuals of log(1 - Dice)."""
    low, high = np.quantile(residuals, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return known.model_copy(update={"below": max(0.0, -float(low)), "above": max(0.0, float(high))})


def residual(known: Map, sample: Sample, labels: Sequence[str], ranges: Mapping[str, LabelRange]) -> Numbers:
    """Return log(1 - Dice) less what the map expects, for each label; NaN where a label was not found or is in neither."""
    fit = np.array(known.constants) + _shown(sample.evidence, labels, ranges) @ np.array(known.slopes)
    truth = np.log(np.maximum(1 - sample.dice, LEAST))
    return np.where(sample.evidence.found, truth - fit, np.nan)


def _mean(values: Numbers) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else 0.0


@dataclass(frozen=True)
class _Table:
    """One row for each label that was found in each look."""

    labels: int
    which: NDArray[np.int64]  # index of the label
    shown: Numbers  # (rows, 3)
    truth: Numbers  # log(1 - Dice)
    cases: NDArray[np.int64]

    @classmethod
    def of(cls, samples: Sequence[Sample], labels: Sequence[str], ranges: Mapping[str, LabelRange], agreement: bool) -> "_Table":
        which, shown, truth, cases = [], [], [], []
        for sample in samples:
            rows = _shown(sample.evidence, labels, ranges)
            rows[:, 1] *= agreement
            for index in np.flatnonzero(sample.evidence.found & ~np.isnan(sample.dice)):
                which.append(index)
                shown.append(rows[index])
                truth.append(math.log(max(1 - sample.dice[index], LEAST)))
                cases.append(sample.case)
        if not which:
            raise ValueError("the network found no label in any validation case")
        return cls(len(labels), np.array(which), np.array(shown), np.array(truth), np.array(cases))

    def solve(self, chosen: NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
        """Return the constants and the slopes of the chosen rows, by least squares with slopes of at least 0."""
        from scipy.optimize import lsq_linear  # slow to import, and only needed here

        rows = int(chosen.sum())
        weight = math.sqrt(_PRIOR_WEIGHT * rows / max(1, len(np.unique(self.cases[chosen]))))
        matrix = np.zeros((rows + 3 + self.labels, self.labels + 3))
        matrix[np.arange(rows), self.which[chosen]] = 1
        matrix[:rows, self.labels :] = self.shown[chosen]
        matrix[rows : rows + 3, self.labels :] = weight * np.eye(3)
        matrix[rows + 3 :, : self.labels] = 1e-3 * np.eye(self.labels)  # decides constants of labels without rows
        wanted = np.concatenate([self.truth[chosen], weight * np.array(_PRIOR), np.zeros(self.labels)])
        least = np.concatenate([np.full(self.labels, -np.inf), np.zeros(3)])
        found = lsq_linear(matrix, wanted, (least, np.inf)).x
        return found[: self.labels], found[self.labels :]

    def residuals(self, left_out: NDArray[np.bool_]) -> Numbers:
        """Return truth less fit of the rows that were left out of the fit."""
        if left_out.all():
            return np.zeros(0)
        constants, slopes = self.solve(~left_out)
        return self.truth[left_out] - constants[self.which[left_out]] - self.shown[left_out] @ slopes


def _shown(evidence: Evidence, labels: Sequence[str], ranges: Mapping[str, LabelRange]) -> Numbers:
    """Return log(1 - expected), log(1 - agreement) or 0, and the octaves outside of the sizes of training (labels, 3)."""
    agreed = np.zeros(len(labels)) if evidence.agreement is None else np.log(np.maximum(1 - evidence.agreement, LEAST))
    beyond = [_beyond(diameter, ranges.get(label)) for label, diameter in zip(labels, evidence.diameters, strict=True)]
    return np.stack([np.log(np.maximum(1 - evidence.expected, LEAST)), agreed, np.array(beyond)], 1)


def _beyond(diameter: float, known: LabelRange | None) -> float:
    if known is None or known.octaves is None or not diameter > 0:
        return 0.0
    return max(0.0, abs(math.log2(diameter / known.diameter)) - known.octaves)


def _dice(logarithm: float) -> float:
    return 1 - math.exp(min(0.0, logarithm))
