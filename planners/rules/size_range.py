"""Choose the range of sizes to expect in new cases, from the sizes of the structures in the training cases.

A label's size in a case is the diameter of a ball of the volume of its structures, averaged over them by volume. With n cases whose log
diameters have the standard deviation s, a new case of the same population lies with probability 0.99 within

    +- t(0.995, n - 1) s sqrt(1 + 1 / n)

of their mean (prediction interval of Student's t; Hahn and Meeker, Statistical Intervals, 1991, section 4.8).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from configs.errors import counted
from configs.fingerprint import CaseFingerprint, LabelSizes
from configs.plan import LabelRange, SizeRange
from planners.decision import Decision

CONFIDENCE = 0.99  # probability that a new case lies within the range
NARROWEST = 1.25  # factor of size that every range holds, either way
WIDEST = 2.0  # factor of size that no planned range exceeds, either way
LIMIT = 4.0  # factor of size that no requested range exceeds, either way
LEAST_SCALING = (0.7, 1.4)  # random scaling of nnU-Net, of one patch in five
LEAST_PROBABILITY = 0.2


@dataclass(frozen=True)
class _Sizes:
    """Sizes of one label: log2 of the diameter in mm in each case that has it."""

    label: str
    octaves: Sequence[float]

    @property
    def reach(self) -> float:
        """Octaves from the mean to either end of the prediction interval; infinite with fewer than two cases."""
        number = len(self.octaves)
        if number < 2:
            return math.inf
        quantile = float(student.ppf((1 + CONFIDENCE) / 2, number - 1))
        return quantile * self.deviation * math.sqrt(1 + 1 / number)

    @property
    def range(self) -> LabelRange:
        """Mean in mm, and the reach where two cases tell it; rounded, so that the plan does not depend on the order of sums."""
        reach = round(self.reach, 4) if math.isfinite(self.reach) else None
        return LabelRange(diameter=float(f"{2 ** float(np.mean(self.octaves)):.6g}"), octaves=reach)

    @property
    def deviation(self) -> float:
        """Standard deviation in octaves, estimated from at least two cases."""
        return float(np.std(self.octaves, ddof=1))


def choose_size_range(cases: Mapping[str, CaseFingerprint], requested: tuple[float, float] | None = None) -> Decision[SizeRange]:
    """Choose the range by the label whose prediction interval is widest, at least 0.8 to 1.25 and at most 0.5 to 2 times the sizes of
    training. With fewer than two cases of any label the range is the widest."""
    sizes = [sizes for sizes in _sizes_of(cases, _octaves) if len(sizes.octaves) > 1]
    widest = max(sizes, key=lambda one: one.reach, default=None)
    labels = {one.label: one.range for one in _sizes_of(cases, _octaves_of_all)}
    if requested is not None:
        return Decision(_range(requested, widest, labels), f"{_words(requested)}, as requested.")
    if widest is None:
        limits = (1 / WIDEST, WIDEST)
        return Decision(
            _range(limits, None, labels), f"{_words(limits)}, the widest range, because no label occurs in two cases."
        )
    factor = min(max(2**widest.reach, NARROWEST), WIDEST)
    limits = (1 / factor, factor)
    median = 2 ** float(np.median(widest.octaves))
    found = (
        f"diameters vary most for {widest.label}: {median:.3g} mm in the median of {counted(len(widest.octaves), 'case')}, standard "
        f"deviation {widest.deviation:.2f} octaves, so 99 % of new cases lie within {widest.reach:.2f} octaves of the mean"
    )
    bound = {1 / NARROWEST: "; the range is widened to its least", 1 / WIDEST: "; the range is limited to its most"}
    return Decision(
        _range(limits, widest, labels),
        f"{_words(limits)}: {found}{bound.get(1 / factor, '') if factor != 2**widest.reach else ''}.",
    )


def choose_scaling(sizes: SizeRange, requested: bool) -> tuple[Decision[tuple[float, float]], float]:
    """Return the range of random scaling in training, and the share of patches that are scaled.

    Factors are of the patch: below 1 the anatomy grows. The range is nnU-Net's, since prediction finds the size of the anatomy; a network
    that was trained so is segmented as well at 0.4 and 2.4 times the size (`docs/explanation/evidence.md`). A `requested` range is covered
    by training too. It scales more patches, so that each octave of sizes is drawn as often as with nnU-Net's range.
    """
    low, high = LEAST_SCALING
    if requested:
        low, high = min(low, 1 / sizes.high), max(high, 1 / sizes.low)
    octaves, least = math.log2(high / low), math.log2(LEAST_SCALING[1] / LEAST_SCALING[0])
    probability = round(LEAST_PROBABILITY * octaves / least, 3)
    found = f"Random scaling of {probability:.0%} of the patches by {low:.3g} to {high:.3g}"
    if (low, high) == LEAST_SCALING:
        return Decision((low, high), f"{found}, as in nnU-Net; prediction finds sizes beyond it."), probability
    return Decision((low, high), f"{found}, to cover the requested sizes."), probability


def _sizes_of(cases: Mapping[str, CaseFingerprint], octaves: Callable[[LabelSizes], float]) -> list[_Sizes]:
    """Return the sizes of each label that occurs."""
    names = dict.fromkeys(name for case in cases.values() for name in case.labels)
    present = {name: [case.labels[name] for case in cases.values() if name in case.labels] for name in names}
    sizes = [_Sizes(name, [octaves(one) for one in found if one.voxels]) for name, found in present.items()]
    return [one for one in sizes if one.octaves]


def _octaves(sizes: LabelSizes) -> float:
    """Return log2 of the diameter in mm, averaged over the components by volume, so that specks do not decide."""
    volumes = np.array(sizes.component_volumes)
    return float(np.average(np.log2(np.cbrt(6 / math.pi * volumes)), weights=volumes))


def _octaves_of_all(sizes: LabelSizes) -> float:
    """Return log2 of the diameter in mm of a ball of the label's whole volume, which is known of a segmentation too."""
    return math.log2(6 / math.pi * sizes.volume) / 3


def _range(limits: tuple[float, float], widest: _Sizes | None, labels: dict[str, LabelRange]) -> SizeRange:
    low, high = (round(limit, 4) for limit in limits)
    return SizeRange(low=low, high=high, label=widest.label if widest else None, labels=labels)


def _words(limits: tuple[float, float]) -> str:
    return f"New cases are expected at {limits[0]:.2f} to {limits[1]:.2f} times the sizes of training"
