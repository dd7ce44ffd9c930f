"""The scores of a model as rows of tables, and its best, median and worst cases."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference.evaluation.scores import LabelScores
from inference.report.trained import TrainedModel

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


_MEANS = ("iou", "precision", "recall", "volume_error", "surface_dice", "hd95", "lesion_f1")


@dataclass(frozen=True)
class Summary:
    """Dice of a label over cases, or of all labels.

    Attributes:
        label: its name.
        mean: NaN where it is defined in no case.
        interval: of the mean, or None.
        values: Dice of each case in which it is defined.
        undefined: cases in which it is not: the label is neither in prediction nor in reference.
        others: score -> mean over the cases in which it is defined; only scores that are there.
    """

    label: str
    mean: float
    interval: Interval | None
    values: NDArray[np.float64]
    undefined: int
    others: dict[str, float]


def dice_table(model: TrainedModel) -> NDArray[np.float64]:
    """(cases, labels) Dice in the order of `model.scores.cases` and of the dataset's foreground labels; NaN where it is undefined."""
    labels = model.plan.dataset.foreground
    rows = [[_value(scores, label) for label in labels] for scores in model.scores.cases.values()]
    return np.array(rows, dtype=float).reshape(len(rows), len(labels))


def overall(model: TrainedModel) -> Summary:
    """Mean foreground Dice: over labels of each label's mean over cases."""
    table = dice_table(model)
    by_case = case_means(table)
    defined = by_case[np.isfinite(by_case)]
    return Summary("all labels", mean_of_means(table), bootstrap_interval(table), defined, len(table) - len(defined), {})


def by_label(model: TrainedModel) -> list[Summary]:
    """One summary for each foreground label or region."""
    table, cases = dice_table(model), list(model.scores.cases.values())
    summaries = []
    for index, label in enumerate(model.plan.dataset.foreground):
        column = table[:, [index]]
        values = column[np.isfinite(column)]
        found = [scores[label] for scores in cases if label in scores]
        summaries.append(
            Summary(
                label,
                mean_of_means(column),
                bootstrap_interval(column),
                values,
                len(column) - len(values),
                {name: mean for name in _MEANS if (mean := _mean(found, name)) is not None},
            )
        )
    return summaries


def case_means(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean Dice over the labels of each case; NaN where none is defined."""
    defined = np.isfinite(table)
    number = defined.sum(axis=1)
    return np.divide(np.where(defined, table, 0).sum(axis=1), number, out=np.full(len(table), np.nan), where=number > 0)


def ranked(model: TrainedModel) -> list[tuple[str, float]]:
    """Cases with their mean Dice over labels, the worst first; cases in which no Dice is defined come last."""
    means = case_means(dice_table(model))
    return sorted(
        zip(model.scores.cases, means.tolist(), strict=True), key=lambda entry: (np.isnan(entry[1]), entry[1], entry[0])
    )


def notable(model: TrainedModel, worst: int) -> dict[str, str]:
    """Case -> why it is shown: the worst ones, the median and the best, each once."""
    order = [case for case, dice in ranked(model) if np.isfinite(dice)]
    chosen = {}
    for position, case in enumerate(order[:worst]):
        chosen[case] = "the worst case" if position == 0 else f"worst but {position}"
    if order:
        chosen.setdefault(order[len(order) // 2], "the median case")
        chosen.setdefault(order[-1], "the best case")
    return chosen


def _value(scores: dict[str, LabelScores], label: str) -> float:
    found = scores.get(label)
    return np.nan if found is None or found.dice is None else found.dice


def _mean(scores: list[LabelScores], name: str) -> float | None:
    values = [value for found in scores if (value := getattr(found, name)) is not None]
    return float(np.mean(values)) if values else None
