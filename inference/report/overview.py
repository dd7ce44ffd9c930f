"""Overview page of several models, with links to the page of each."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from configs.errors import Fault, counted
from inference.evaluation.equivariance import EquivarianceCurve
from inference.report.figures import MOST_LINES, dice_figure, equivariance_figure, robustness_figure
from inference.report.numbers import in_time, shown_interval, shown_number, timing_of
from inference.report.page import PACKAGE, size_of
from inference.report.scoring import Interval, Summary, bootstrap_interval, dice_table, mean_of_means, overall, ranked
from inference.report.trained import TrainedModel
from preprocessing.pages.figures import Picture, in_figures
from preprocessing.pages.rendering import page_environment


@dataclass(frozen=True)
class Entry:
    """A model, its measurements and the path of its page."""

    model: TrainedModel
    equivariance: EquivarianceCurve | None
    page: Path


def overview_page(folder: Path, entries: Sequence[Entry], page: Path, faults: Sequence[Fault] = ()) -> str:
    """Return the page as HTML, with a section for each dataset.

    Links are relative to the path `page`; `faults` are those of models that cannot be shown.
    """
    datasets: dict[str, list[Entry]] = {}
    for entry in entries:
        datasets.setdefault(entry.model.plan.dataset.name, []).append(entry)
    return (
        page_environment(PACKAGE)
        .get_template("overview.html.j2")
        .render(
            name=folder.resolve().name,
            summary=f"{counted(len(entries), 'model')} of {counted(len(datasets), 'dataset')}.",
            faults=faults,
            datasets=[_dataset(name, found, page) for name, found in datasets.items()],
        )
    )


def behind(model: TrainedModel, best: TrainedModel) -> tuple[float, Interval | None, int] | None:
    """Return how much lower a model's mean foreground Dice is than another's on the cases that both validated.

    Returns:
        The mean difference, its 95 % interval over paired cases, and the number of cases; None if there are none.
    """
    common = [case for case in model.scores.cases if case in best.scores.cases]
    if not common:
        return None
    tables = [dict(zip(one.scores.cases, dice_table(one), strict=True)) for one in (best, model)]
    difference = np.array([tables[0][case] - tables[1][case] for case in common])
    if not np.isfinite(difference).any():
        return None
    return mean_of_means(difference), bootstrap_interval(difference), len(common)


def _dataset(name: str, entries: Sequence[Entry], page: Path) -> dict[str, Any]:
    scored = {id(entry): overall(entry.model) for entry in entries if entry.model.scores.cases}
    order = sorted(entries, key=lambda entry: -scored[id(entry)].mean if id(entry) in scored else 1.0)
    best = order[0].model if id(order[0]) in scored else None
    summaries = [
        Summary(entry.model.name, found.mean, found.interval, found.values, found.undefined, {})
        for entry in order
        if (found := scored.get(id(entry))) is not None
    ]
    return {
        "name": name,
        "rows": [_row(entry, scored.get(id(entry)), best, page) for entry in order],
        "pictures": [
            picture for picture in (_dice(name, summaries), _robustness(name, order), _equivariance(name, order)) if picture
        ],
    }


def _row(entry: Entry, summary: Summary | None, best: TrainedModel | None, page: Path) -> dict[str, str]:
    model, size = entry.model, size_of(entry.model)
    timings = [timing for fold in model.folds if (timing := timing_of(fold))]
    difference = None if best is None or model is best else behind(model, best)
    lost = "-"
    if difference is not None:
        mean, interval, cases = difference
        spread = "" if interval is None else f" ({interval.low:.3f} to {interval.high:.3f})"
        lost = f"{mean:.3f}{spread}"
        if cases < len(best.scores.cases if best else ()):
            lost += f", {counted(cases, 'case')}"
    return {
        "name": model.name,
        "link": quote(Path(os.path.relpath(entry.page, page.parent)).as_posix()),
        "cases": _cases(model),
        "dice": "-" if summary is None else shown_number(summary.mean),
        "interval": "-" if summary is None else shown_interval(summary),
        "behind": "best" if model is best else lost,
        "worst": shown_number(ranked(model)[0][1]) if model.scores.cases else "-",
        "equivariance": shown_number(entry.equivariance.mean if entry.equivariance else None),
        "parameters": "-" if size.parameters is None else f"{size.parameters:,}",
        "operations": "-" if size.multiply_adds is None else in_figures(size.multiply_adds / 1e9),
        "time": "-" if not timings else in_time(sum(timing.total for timing in timings)),
    }


def _cases(model: TrainedModel) -> str:
    folds = ", ".join(model.scores.folds)
    trained = ", training cases" if model.scores.are_of_training_cases else ""
    return f"{len(model.scores.cases)} ({folds}{trained})" if folds else "-"


def _dice(name: str, summaries: Sequence[Summary]) -> Picture | None:
    if not summaries:
        return None
    return Picture(
        dice_figure(summaries, f"dice-{name}"),
        f"Dice of the cases of {counted(len(summaries), 'model')} for {name}; the table above gives the numbers.",
        "One dot per case, its mean over labels. Orange: mean foreground Dice with its 95 % interval over cases. Models that were "
        "validated on different cases cannot be compared by this figure alone.",
    )


def _robustness(name: str, entries: Sequence[Entry]) -> Picture | None:
    results = {entry.model.name: entry.model.robustness for entry in entries if entry.model.robustness is not None}
    kept = dict(list(results.items())[: MOST_LINES // 2])
    if not kept:
        return None
    return Picture(
        robustness_figure(kept, f"robustness-{name}", with_names=True),
        f"Mean foreground Dice over sizes of the anatomy: {', '.join(kept)}.",
        "Measured by se_evaluate -m MODEL --scales. The page of each model gives the numbers.",
    )


def _equivariance(name: str, entries: Sequence[Entry]) -> Picture | None:
    curves = {
        entry.model.name: entry.equivariance
        for entry in entries
        if entry.equivariance is not None and entry.equivariance.shown is not None
    }
    kept = dict(list(curves.items())[:MOST_LINES])
    if not kept:
        return None
    means = {model: curve.mean or 0.0 for model, curve in kept.items()}
    return Picture(
        equivariance_figure(kept, f"equivariance-{name}", one_of_each=True),
        f"Equivariance error by factor of enlargement. Means: {', '.join(f'{model} {mean:.3f}' for model, mean in means.items())}.",
        "0 for an equivariant network, about 1 if sizes are unrelated. The page of each model describes the measurement.",
    )
