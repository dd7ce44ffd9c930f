"""Confidence intervals by the bootstrap: how much a mean would differ with other cases of the same kind."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
DRAWS = 4000


class Interval(NamedTuple):
    """Where a mean lies with 95 % confidence."""

    low: float
    high: float


def mean_of_means(table: NDArray[np.float64]) -> float:
    """Mean over columns of each column's mean over rows. NaN entries are left out, and columns without any entry.

    Args:
        table: (cases, labels).

    Returns:
        NaN where nothing is defined.
    """
    return float(_means(table, np.ones((1, len(table))))[0])


def bootstrap_interval(table: NDArray[np.float64], seed: int = 0) -> Interval | None:
    """The percentile interval of `mean_of_means` over draws of the cases, with replacement (Efron 1979).

    A case is drawn with all its labels, so that labels of a case may depend on each other. The same table gives the same interval.

    Args:
        table: (cases, labels), NaN where a score is undefined.
        seed: of the draws.

    Returns:
        None where fewer than two cases have a defined score.
    """
    table = table[np.isfinite(table).any(axis=1)]
    cases = len(table)
    if cases < 2:
        return None
    drawn = np.random.default_rng(seed).integers(cases, size=(DRAWS, cases))
    counts = np.stack([np.bincount(draw, minlength=cases) for draw in drawn]).astype(float)
    means = _means(table, counts)
    low, high = np.nanquantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(float(low), float(high))


def _means(table: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """`mean_of_means` for each row of `counts`: how often each case occurs."""
    defined = np.isfinite(table)
    number = counts @ defined
    total = counts @ np.where(defined, table, 0.0)
    by_label = np.divide(total, number, out=np.zeros_like(total), where=number > 0)
    labels = (number > 0).sum(axis=1)
    return np.divide(by_label.sum(axis=1), labels, out=np.full(len(counts), np.nan), where=labels > 0)
