"""Results of finished runs of `benchmarks.designs.learning`: a row for each design, cases and steps, and curves of the loss."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.figures import svg_axes
from configs.files import read_json

MARKS = {"single": "", "ensemble": " tta", "confidence": " conf"}
MOST_CASES = 25  # training cases, unless a run has fewer
SMOOTHING = 20  # steps over which a curve is averaged
Result = dict[str, Any]


def read_results(folder: Path) -> list[Result]:
    """Return all finished runs of a folder, sorted by steps, cases, design and seed."""
    return in_order(read_json(path) for path in folder.glob("*.json"))


def in_order(results: Iterable[Result]) -> list[Result]:
    """Sort runs by steps, cases, design and seed."""
    return sorted(results, key=lambda result: (result["steps"], _cases(result), result["design"], result["seed"]))


def _cases(result: Result) -> int:
    """Return the number of training cases; earlier runs did not note it."""
    return int(result.get("cases") or MOST_CASES)


def rows_of(results: Sequence[Result]) -> list[Result]:
    """Return one row for each design, number of cases and of steps: the Dice at each scale, as mean over seeds with its range in brackets.

    `tta` is with the mean over scales, `conf` with scales weighed by confidence.
    """
    groups: dict[tuple[int, int, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result["steps"], _cases(result), result["design"]), []).append(result)
    rows = []
    for (steps, cases, design), runs in groups.items():
        row: Result = {"design": design, "cases": cases, "steps": steps, "seeds": len(runs), "parameters": runs[0]["parameters"]}
        for way, mark in MARKS.items():
            tested = [run["dice"][way] for run in runs if run["dice"].get(way)]
            for scale in tested[0] if tested else ():
                row[scale + mark] = _mean_and_range([dice[scale] for dice in tested])
        rows.append(row)
    return rows


def columns_of(results: Sequence[Result]) -> dict[str, str]:
    """Return the columns of the table, with the format of their values."""
    names = {name for row in rows_of(results) for name in row if name[0].isdigit()}
    marks = list(MARKS.values())
    scales = sorted(names, key=lambda name: (marks.index(name[len(name.split()[0]) :]), float(name.split()[0])))
    return {"design": "{}", "cases": "{:d}", "steps": "{:d}", "seeds": "{:d}", "parameters": "{:,}"} | dict.fromkeys(scales, "{}")


def draw_losses(results: Sequence[Result], path: Path, designs: Sequence[str]) -> None:
    """Draw the loss of each design's longest runs, and of these the ones with most cases, averaged over steps and seeds.

    The range over seeds is a band.
    """
    with svg_axes(path, 7, 4) as axes:
        for design in designs:
            own = [result for result in results if result["design"] == design]
            most = max((result["steps"], _cases(result)) for result in own)
            runs = [result["losses"] for result in own if (result["steps"], _cases(result)) == most]
            curves = np.stack([_smooth(losses) for losses in runs])
            positions = np.arange(curves.shape[1]) + SMOOTHING
            (line,) = axes.plot(positions, curves.mean(0), label=f"{design} ({len(runs)} seeds)")
            axes.fill_between(positions, curves.min(0), curves.max(0), color=line.get_color(), alpha=0.2, linewidth=0)
        axes.set(xlabel="step", ylabel=f"cross-entropy - Dice, mean of {SMOOTHING} steps")
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)


def _mean_and_range(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f}-{max(values):.3f})"


def _smooth(losses: Sequence[float]) -> NDArray[np.float64]:
    return np.convolve(losses, np.full(SMOOTHING, 1 / SMOOTHING), mode="valid")
