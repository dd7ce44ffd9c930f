"""Find the factor of an image's size at which a network segments it best. An image that looks like validation cases is not searched.

The search begins at natural size and steps towards smaller factors, which cost little, as long as the expected Dice rises. Larger factors
follow only where smaller ones bring nothing and what was found may be smaller than in training: looks there cost the cube of the factor.
On its side the search also looks at the factor that brings what was found to its size of training, since the way there may lead through
sizes that are no better. It leaves natural size only where the expected gain exceeds what factors that are no better show on validation
cases.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from configs.plan import SizeRange
from inference.sizes.calibration import Calibration, Evidence, Map, expect, expected_mean, factors_of, missing_labels

Show = Callable[[float], Evidence]  # factor of the image's size -> what a look there shows, with the agreement


@dataclass(frozen=True)
class FoundSize:
    """The factor at which to segment an image."""

    factor: float
    evidence: Evidence  # at this factor
    searched: bool  # whether more than the first look was needed


def find_factor(calibration: Calibration, first: Evidence, show: Show, forced: bool = False) -> FoundSize:
    """Return the factor with the highest expected Dice.

    `first` is a look at the image as it is, without agreement; `show` looks at other factors and is called once for each. A `forced` search
    is made although the image looks as usual.
    """
    if not forced and expected_mean(expect(calibration, first)) >= calibration.usual:
        return FoundSize(1.0, first, searched=False)
    seen: dict[float, Evidence] = {}

    def score(factor: float) -> float:
        seen[factor] = show(factor)
        return expected_mean(expect(calibration, seen[factor]))

    factors = factors_of(calibration.sizes)
    scores = {1.0: score(1.0)}
    suggested = _suggested(calibration, seen[1.0], factors)
    _climb(score, scores, sorted((factor for factor in factors if factor < 1), reverse=True), suggested)
    if max(scores.values()) - scores[1.0] <= calibration.margin and _may_be_smaller(calibration, seen[1.0], suggested):
        _climb(score, scores, sorted(factor for factor in factors if factor > 1), suggested)
    best = max(scores, key=lambda factor: (scores[factor], -abs(math.log(factor))))
    if scores[best] - scores[1.0] <= calibration.margin:
        best = 1.0
    return FoundSize(best, seen[best], searched=True)


def _climb(score: Callable[[float], float], scores: dict[float, float], side: Sequence[float], suggested: float) -> None:
    """Add the scores of factors on one side of 1, from 1 outward, up to the first that is not better, and of the suggested one there."""
    before = scores[1.0]
    for factor in side:
        scores[factor] = score(factor)
        if scores[factor] <= before:
            break
        before = scores[factor]
    if suggested in side and suggested not in scores:
        scores[suggested] = score(suggested)


def _may_be_smaller(calibration: Calibration, evidence: Evidence, suggested: float) -> bool:
    """Return whether the anatomy may be smaller than in training: what was found is, or a label was not found that should have been."""
    sizes_are_known = any(
        found and label in calibration.sizes.labels for found, label in zip(evidence.found, calibration.labels, strict=True)
    )
    return suggested > 1 or bool(missing_labels(calibration, evidence)) or not sizes_are_known


def _suggested(calibration: Calibration, evidence: Evidence, factors: Sequence[float]) -> float:
    """Return the factor at which the found labels would have their sizes of training; 1 where no such label was found."""
    known = [calibration.sizes.labels.get(label) for label in calibration.labels]
    ratios = [
        math.log(usual.diameter / diameter)
        for usual, diameter in zip(known, evidence.diameters, strict=True)
        if usual is not None and diameter > 0
    ]
    wanted = math.fsum(ratios) / len(ratios) if ratios else 0.0
    return min(factors, key=lambda factor: abs(math.log(factor) - wanted))


def uncalibrated(labels: Sequence[str], sizes: SizeRange) -> Calibration:
    """Return the calibration that believes the network: for a search that is forced without validation cases."""
    plain = Map(constants=(0.0,) * len(labels), slopes=(1.0, 0.0, 0.0), below=0.0, above=0.0)
    return Calibration(
        labels=tuple(labels),
        always=(False,) * len(labels),
        sizes=sizes,
        first=plain,
        second=plain,
        usual=1.0,
        error=1.0,
        error_as_it_is=1.0,
        margin=0.02,
        searches=False,
        reason="no validation cases",
        cases=0,
    )
