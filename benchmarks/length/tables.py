"""Results of long trainings: the committed rows, a table with intervals, and figures of the curves."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import bootstrap

from benchmarks.common.figures import svg_axes
from benchmarks.common.tables import write_csv
from benchmarks.length.runs import PLANNED, Place, Run
from benchmarks.length.scores import KINDS, Record

Row = dict[str, Any]
IDENTITY: dict[str, type] = {"network": str, "recipe": str, "size": int, "seed": int, "steps": int}
VALUES = ("training_loss", "validation_loss_raw", "validation_loss_averaged", "dice_raw", "dice_averaged", "seconds")
POINT: dict[str, type] = IDENTITY | {"step": int} | dict.fromkeys(VALUES, float) | {"commit": str}
CASE: dict[str, type] = IDENTITY | {"part": str, "case": str, "weights": str, "dice": float}
REFERENCE = "baseline"
DIGITS = 5
COLUMNS = {
    "network": "{}", "recipe": "{}", "cases": "{:d}", "seeds": "{:d}", "step": "{:,d}", "training_loss": "{:.3f}",
    "validation_loss": "{:.3f}", "last_raw": "{:.4f}", "last_averaged": "{:.4f}", "best_raw": "{:.4f}", "best_averaged": "{:.4f}",
    "above_baseline": "{:+.4f}", "low": "{:+.4f}", "high": "{:+.4f}",
}  # fmt: skip
FINAL_COLUMNS = {
    f"{part}_{name}": "{:.4f}" if name in KINDS else "{:+.4f}"
    for part in ("test",)
    for name in (*KINDS, "above_baseline", "low", "high")
}


def run_of(row: Mapping[str, Any]) -> Run:
    """Return the run to which a row belongs."""
    return Run(row["network"], row["size"], row["seed"], row["recipe"], row["steps"])


def read_rows(path: Path, columns: Mapping[str, type]) -> list[Row]:
    """Return the rows of a CSV file; empty values are None."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {name: None if row[name] == "" else kind(row[name]) for name, kind in columns.items()} for row in csv.DictReader(file)
        ]


def collect(runs: Iterable[Run], place: Place, points: Path, cases: Path) -> None:
    """Write the results of the work folder into the two files. Rows of runs that are in the folder are replaced, other rows stay."""
    records = {run: Record.open(place.record(run)).content for run in runs if place.record(run).is_file()}
    for path, columns, rows_of in ((points, POINT, point_rows), (cases, CASE, case_rows)):
        kept = [row for row in read_rows(path, columns) if not records.get(run_of(row))]
        rows = kept + [row for run, content in records.items() for row in rows_of(run, content)]
        if rows:
            write_csv(sorted(rows, key=lambda row: [row[name] for name in columns if columns[name] is not float]), path)


def point_rows(run: Run, content: Mapping[str, Any]) -> list[Row]:
    """Return one row for each epoch; whole volumes were scored after some of them."""
    commit = content.get("commit", "")
    return [
        _identity(run) | {"step": point["step"]} | {name: _rounded(point.get(name)) for name in VALUES} | {"commit": commit}
        for point in content.get("curve", [])
    ]


def case_rows(run: Run, content: Mapping[str, Any]) -> list[Row]:
    """Return one row for each case and kind of weights."""
    return [
        _identity(run) | {"part": part, "case": case, "weights": weights, "dice": _rounded(dice)}
        for part in ("validation", "test")
        for weights, scores in content.get(part, {}).items()
        for case, dice in scores.items()
    ]


def is_finished(points: Sequence[Row], run: Run) -> bool:
    """Return whether the committed rows contain the end of a run."""
    return any(run_of(row) == run and row["step"] == run.steps and row["dice_raw"] is not None for row in points)


def summary(points: Sequence[Row], cases: Sequence[Row], final: bool = False) -> list[Row]:
    """Return one row for each network, recipe and number of cases over the seeds: last and best point of the curves, and how far the
    averaged weights are above those of the baseline, over pairs of seed and case, with an interval of 95 %.

    Args:
        points, cases: rows of all epochs, and of all cases.
        final: whether to include the test cases, which must not influence any choice.
    """
    rows = []
    for group in dict.fromkeys((run.network, run.recipe, run.size, run.steps) for run in map(run_of, points)):
        mine = [row for row in points if _group(row) == group]
        curves = [[row for row in mine if row["seed"] == seed and row["dice_raw"] is not None] for seed in _seeds(mine)]
        curves = [curve for curve in curves if curve]
        if not curves:
            continue
        last = [curve[-1] for curve in curves]
        row: Row = {"network": group[0], "recipe": group[1], "cases": group[2], "seeds": len(curves)}
        row |= {"step": min(one["step"] for one in last), "training_loss": _mean(last, "training_loss")}
        row["validation_loss"] = _mean(last, "validation_loss_averaged")
        for kind in KINDS:
            row[f"last_{kind}"] = _mean(last, f"dice_{kind}")
            row[f"best_{kind}"] = float(np.mean([max(one[f"dice_{kind}"] for one in curve) for curve in curves]))
        rows.append(row | _difference(cases, group, "validation"))
        if final:
            rows[-1] |= {f"test_{name}": value for name, value in _tested(cases, group).items()}
    return rows


def draw(points: Sequence[Row], path: Path) -> None:
    """Draw Dice and loss over steps, with one row of panels for each number of training cases.

    Lines are dashed for the weights themselves, solid for averaged weights, and dotted for the training loss. Curves are means over the
    seeds that have reached a step.
    """
    sizes = sorted({row["size"] for row in points})
    groups = list(dict.fromkeys(_group(row) for row in sorted(points, key=lambda row: (row["recipe"], row["network"]))))
    colours = {name: f"C{index}" for index, name in enumerate(dict.fromkeys((group[0], group[1]) for group in groups))}
    if not sizes:
        return
    with svg_axes(path, 5, 3.6, panels=2 * len(sizes), columns=2) as axes:
        for index, size in enumerate(sizes):
            for group in (group for group in groups if group[2] == size):
                mine = [row for row in points if _group(row) == group]
                _draw_lines(axes[2 * index], mine, colours[group[:2]], {"dice_averaged": "-", "dice_raw": "--"})
                _draw_lines(
                    axes[2 * index + 1], mine, colours[group[:2]], {"validation_loss_averaged": "-", "training_loss": ":"}
                )
            best = max((row["dice_averaged"] or 0 for row in points if row["size"] == size), default=1)
            axes[2 * index].set(xlabel="step", ylabel="Dice on whole validation volumes", ylim=(best - 0.08, best + 0.005))
            axes[2 * index + 1].set(xlabel="step", ylabel="loss")
            for one in axes[2 * index : 2 * index + 2]:
                one.set_title(f"{size} training cases", fontsize="medium")
                one.grid(alpha=0.3)
            axes[2 * index].legend(frameon=False, fontsize="small")


def _draw_lines(axes: Any, rows: Sequence[Row], colour: str, styles: Mapping[str, str]) -> None:
    network, recipe = rows[0]["network"], rows[0]["recipe"]
    label = f"{network}" if recipe in (PLANNED, "own") else f"{network}, {recipe}"
    for name, style in styles.items():
        values: dict[int, list[float]] = {}
        for row in rows:
            if row[name] is not None:
                values.setdefault(row["step"], []).append(row[name])
        steps = sorted(values)
        axes.plot(steps, [np.mean(values[step]) for step in steps], style, color=colour, label=label if style == "-" else None)


def _tested(cases: Sequence[Row], group: tuple[Any, ...]) -> Row:
    tested = [row for row in cases if _group(row) == group and row["part"] == "test"]
    means = {kind: float(np.mean(dice)) for kind in KINDS if (dice := [row["dice"] for row in tested if row["weights"] == kind])}
    return means | _difference(cases, group, "test")


def _difference(cases: Sequence[Row], group: tuple[Any, ...], part: str) -> Row:
    """Return the mean over cases of the difference in Dice to the baseline; each case is first averaged over the seeds that both have."""
    pairs: dict[str, list[float]] = {}
    mine, theirs = (_dice_of(cases, one, part) for one in (group, (REFERENCE, PLANNED, *group[2:])))
    for (seed, case), dice in mine.items():
        if (seed, case) in theirs:
            pairs.setdefault(case, []).append(dice - theirs[seed, case])
    if (group[0] == REFERENCE and group[1] == PLANNED) or len(pairs) < 2:
        return {}
    values = [float(np.mean(one)) for one in pairs.values()]
    low, high = interval(values)
    return {"above_baseline": float(np.mean(values)), "low": low, "high": high}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % confidence interval of the mean by resampling; equal values give an equal interval."""
    if len(set(values)) == 1:
        return values[0], values[0]
    found = bootstrap((np.asarray(values),), np.mean, n_resamples=9999, rng=np.random.default_rng(0)).confidence_interval
    return float(found.low), float(found.high)


def _dice_of(cases: Sequence[Row], group: tuple[Any, ...], part: str) -> dict[tuple[int, str], float]:
    chosen = (row for row in cases if _group(row) == group and row["part"] == part and row["weights"] == "averaged")
    return {(row["seed"], row["case"]): row["dice"] for row in chosen}


def _group(row: Mapping[str, Any]) -> tuple[str, str, int, int]:
    return row["network"], row["recipe"], row["size"], row["steps"]


def _seeds(rows: Sequence[Row]) -> list[int]:
    return sorted({row["seed"] for row in rows})


def _mean(rows: Sequence[Row], name: str) -> float:
    return float(np.mean([row[name] for row in rows]))


def _identity(run: Run) -> Row:
    return {name: getattr(run, name) for name in IDENTITY}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)
