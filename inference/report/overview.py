"""Overview page of several models, with links to the page of each."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from configs.errors import Fault
from inference.evaluation.equivariance import EquivarianceCurve
from inference.report.figures import MOST_LINES, dice_figure, equivariance_figure, robustness_figure
from inference.report.numbers import report_environment, size_of, timings_of
from inference.report.scoring import (
    Interval,
    Summary,
    bootstrap_interval,
    dice_over_sizes,
    dice_table,
    mean_of_means,
    overall,
    ranked,
)
from inference.report.trained import TrainedModel


@dataclass(frozen=True)
class ReportedModel:
    """A model, its measurements and the path of its page."""

    model: TrainedModel
    equivariance: EquivarianceCurve | None
    page: Path


def overview_page(folder: Path, entries: Sequence[ReportedModel], page: Path, faults: Sequence[Fault] = ()) -> str:
    """Return the page as HTML, with a section for each dataset.

    Links are relative to the path `page`; `faults` are those of models that cannot be shown.
    """
    datasets: dict[str, list[ReportedModel]] = {}
    for entry in entries:
        datasets.setdefault(entry.model.plan.dataset.name, []).append(entry)
    content = {"name": folder.resolve().name, "models": len(entries), "faults": faults}
    sections = {name: _section(name, found, page) for name, found in datasets.items()}
    return report_environment().get_template("overview.html.j2").render(content, datasets=sections)


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


def _section(name: str, entries: Sequence[ReportedModel], page: Path) -> dict[str, Any]:
    """Return the rows and the figures of a dataset's models, best first; models without scores lead."""
    scored = {id(entry): overall(entry.model) for entry in entries if entry.model.scores.cases}
    order = sorted(entries, key=lambda entry: -scored[id(entry)].mean if id(entry) in scored else 1.0)
    best = order[0].model if id(order[0]) in scored else None
    summaries = [replace(scored[id(entry)], label=entry.model.name) for entry in order if id(entry) in scored]
    sizes = {entry.model.name: found for entry in order if (found := dice_over_sizes(entry.model.robustness))}
    sizes = dict(list(sizes.items())[: MOST_LINES // 2])
    curves = {entry.model.name: entry.equivariance for entry in order if entry.equivariance and entry.equivariance.shown}
    curves = dict(list(curves.items())[:MOST_LINES])
    return {
        "rows": [_row(entry, scored.get(id(entry)), best, page) for entry in order],
        "summaries": summaries,
        "sizes": sizes,
        "curves": curves,
        "dice_figure": dice_figure(summaries, f"dice-{name}") if summaries else None,
        "sizes_figure": robustness_figure(sizes, f"robustness-{name}", with_names=True) if sizes else None,
        "curves_figure": equivariance_figure(curves, f"equivariance-{name}", one_of_each=True) if curves else None,
    }


def _row(entry: ReportedModel, summary: Summary | None, best: TrainedModel | None, page: Path) -> dict[str, Any]:
    model = entry.model
    return {
        "model": model,
        "link": quote(Path(os.path.relpath(entry.page, page.parent)).as_posix()),
        "summary": summary,
        "is_best": model is best,
        "behind": None if best is None or model is best else behind(model, best),
        "most_cases": len(best.scores.cases) if best else 0,
        "worst": ranked(model)[0][1] if model.scores.cases else None,
        "curve": entry.equivariance,
        "size": size_of(model),
        "seconds": [timing.total for timing in timings_of(model)],
    }
