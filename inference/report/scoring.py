"""Scores of a model as rows of tables, and its best, median and worst cases."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import bootstrap

from inference.evaluation.robustness import RobustnessResult, words_of
from inference.evaluation.scores import LabelScores
from inference.report.trained import TrainedModel

LEVEL = 0.95
DRAWS = 4000


class Interval(NamedTuple):
    """95 % confidence interval of a mean."""

    low: float
    high: float


def mean_of_means(table: NDArray[np.float64]) -> float:
    """Return the mean over labels of each label's mean over cases of scores (cases, labels), ignoring NaN; NaN if nothing is defined."""
    return float(_means(table, np.ones((1, len(table))))[0])


def bootstrap_interval(table: NDArray[np.float64], seed: int = 0) -> Interval | None:
    """Return the percentile interval of `mean_of_means` over bootstrap samples of the cases (Efron 1979), or None below two scored cases.

    A case is drawn with all its labels, so that labels of a case may depend on each other. Equal tables give equal intervals.
    """
    table = table[np.isfinite(table).any(axis=1)]
    cases = len(table)
    if cases < 2:
        return None

    def means(drawn: NDArray[np.int_], axis: int) -> NDArray[np.float64]:
        del axis  # the last one
        counts = np.stack([np.bincount(draw, minlength=cases) for draw in drawn.reshape(-1, cases)]).astype(float)
        return _means(table, counts).reshape(drawn.shape[:-1])

    random = np.random.default_rng(seed)
    settings: dict[str, Any] = {"n_resamples": DRAWS, "confidence_level": LEVEL, "method": "percentile", "random_state": random}
    found = bootstrap((np.arange(cases),), means, vectorized=True, **settings).confidence_interval
    return Interval(float(found.low), float(found.high))


def _means(table: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `mean_of_means` for each row of `counts`, which says how often each case occurs."""
    defined = np.isfinite(table)
    number = counts @ defined
    total = counts @ np.where(defined, table, 0.0)
    by_label = np.divide(total, number, out=np.zeros_like(total), where=number > 0)
    labels = (number > 0).sum(axis=1)
    return np.divide(by_label.sum(axis=1), labels, out=np.full(len(counts), np.nan), where=labels > 0)


TITLES = {  # scores besides Dice whose means are shown
    "iou": "IoU",
    "precision": "Precision",
    "recall": "Recall",
    "volume_similarity": "Volume similarity",
    "volume_error": "Volume error, signed",
    "surface_dice": "Surface Dice",
    "hd95": "HD95, mm",
    "lesion_f1": "Lesion F1",
}


@dataclass(frozen=True)
class Summary:
    """Dice over cases of one label or of all labels."""

    label: str  # name of the label
    mean: float  # mean Dice; NaN if it is defined in no case
    interval: Interval | None  # interval of the mean, or None
    values: NDArray[np.float64]  # Dice of each case in which it is defined
    undefined: int  # number of cases with the label in neither prediction nor reference
    others: dict[str, float]  # mean of each other score over the cases in which it is defined
    missed: int = 0  # number of cases with the label in the reference only
    invented: int = 0  # number of cases with the label in the prediction only

    @property
    def median(self) -> float | None:
        """Median Dice; None if it is defined in no case."""
        return float(np.median(self.values)) if len(self.values) else None

    @property
    def lowest(self) -> float | None:
        """Lowest Dice; None if it is defined in no case."""
        return float(self.values.min()) if len(self.values) else None


def dice_table(model: TrainedModel) -> NDArray[np.float64]:
    """Return the Dice (cases, labels), ordered as `model.scores.cases` and the foreground labels; NaN if undefined."""
    labels = model.plan.dataset.foreground
    rows = [[_value(scores, label) for label in labels] for scores in model.scores.cases.values()]
    return np.array(rows, dtype=float).reshape(len(rows), len(labels))


def overall(model: TrainedModel) -> Summary:
    """Return the mean foreground Dice: the mean over labels of each label's mean over cases."""
    table = dice_table(model)
    by_case = case_means(table)
    defined = by_case[np.isfinite(by_case)]
    return Summary("all labels", mean_of_means(table), bootstrap_interval(table), defined, len(table) - len(defined), {})


def by_label(model: TrainedModel) -> list[Summary]:
    """Return a summary for each foreground label or region."""
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
                {name: mean for name in TITLES if (mean := _mean(found, name)) is not None},
                sum(scores.structure == "missed" for scores in found),
                sum(scores.structure == "invented" for scores in found),
            )
        )
    return summaries


def case_means(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean Dice over labels of each case; NaN if none is defined."""
    return pd.DataFrame(table).mean(axis=1).to_numpy()


def ranked(model: TrainedModel) -> list[tuple[str, float]]:
    """Return the cases with their mean Dice over labels, worst first; cases without a defined Dice come last."""
    means = case_means(dice_table(model))
    return sorted(
        zip(model.scores.cases, means.tolist(), strict=True), key=lambda entry: (np.isnan(entry[1]), entry[1], entry[0])
    )


def notable(model: TrainedModel, worst: int) -> dict[str, str]:
    """Return the worst cases, the median case and the best case, each once, with the reason for showing it."""
    order = [case for case, dice in ranked(model) if np.isfinite(dice)]
    chosen = {}
    for position, case in enumerate(order[:worst]):
        chosen[case] = "the worst case" if position == 0 else f"worst case, rank {position + 1}"
    if order:
        chosen.setdefault(order[len(order) // 2], "the median case")
        chosen.setdefault(order[-1], "the best case")
    return chosen


def dice_over_sizes(result: RobustnessResult | None) -> dict[str, dict[float, float | None]]:
    """Return mean foreground Dice by way of ensembling, in words, and by size of the anatomy; empty if nothing is defined."""
    found: dict[str, dict[float, float | None]] = {}
    for point in result.points if result else ():
        way = "one size" if point.ensemble == (1.0,) else f"sizes {words_of(point.ensemble)}"
        found.setdefault(way, {})[point.scale] = point.mean_foreground_dice
    return found if any(dice is not None for row in found.values() for dice in row.values()) else {}


def _value(scores: dict[str, LabelScores], label: str) -> float:
    found = scores.get(label)
    return np.nan if found is None or found.dice is None else found.dice


def _mean(scores: list[LabelScores], name: str) -> float | None:
    values = [value for found in scores if (value := getattr(found, name)) is not None]
    return float(np.mean(values)) if values else None
