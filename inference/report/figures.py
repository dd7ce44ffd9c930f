"""Draw the figures of a report in the colours of the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from inference.evaluation.equivariance import EquivarianceCurve
from inference.report.scoring import Summary
from inference.report.trained import Fold
from inference.sizes.calibration import Calibration
from preprocessing.pages.figures import BLUE, GREEN, INK, ORANGE, draw, only_horizontal_grid, only_vertical_grid, shortened

_STYLES = tuple((colour, dash) for dash, colour in product(("-", (0, (5, 2)), (0, (1.5, 1.5))), (BLUE, ORANGE, GREEN)))
MOST_LINES = len(_STYLES)
_GOLDEN = 0.618034
_FEW_EPOCHS = 40  # up to this number, each epoch has a marker


@dataclass(frozen=True)
class Line:
    """One curve: its name and its points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def dice_figure(summaries: Sequence[Summary], name: str = "dice", *, first_is_all: bool = False) -> Markup:
    """Draw a row per summary: a dot per case, with the mean and its interval below. The first row may have its own colour."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for row, summary in enumerate(summaries):
            colour = INK if row == 0 and first_is_all else BLUE
            offsets = 0.26 * ((np.arange(len(summary.values)) * _GOLDEN) % 1) - 0.36
            axes.scatter(summary.values, row + offsets, s=14, color=colour, alpha=0.55, linewidths=0)
            if np.isfinite(summary.mean):
                _interval(axes, summary, row + 0.14)
        axes.set_yticks(range(len(summaries)), [shortened(summary.label) for summary in summaries])
        axes.set_ylim(len(summaries) - 0.5, -0.6)
        axes.set_xlim(min([0.9, *(float(summary.values.min()) for summary in summaries if len(summary.values))]) - 0.04, 1.005)
        axes.set_xlabel("Dice")
        axes.tick_params(axis="y", length=0)
        only_vertical_grid(axes)

    return draw(name, 0.55 + 0.42 * len(summaries), paint)


def training_figure(folds: Sequence[Fold]) -> Markup | None:
    """Draw loss and Dice on validation patches over the epochs of each fold; return None if there is no log."""
    logged = [fold for fold in folds if len(fold.log)][:3]
    if not logged:
        return None
    loss, dice = [], []
    for fold in logged:
        of = f", fold {fold.name}" if len(logged) > 1 else ""
        loss += [_column(fold.log, "training_loss", f"training{of}"), _column(fold.log, "validation_loss", f"validation{of}")]
        dice += [_column(fold.log, "ema_pseudo_dice", f"patches, smoothed{of}"), _column(fold.log, "volume_dice", f"volumes{of}")]

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        _curves(left, loss, len(logged))
        left.set_title("Loss")
        _curves(right, dice, len(logged))
        right.set_title("Dice while training")
        right.set_ylim(0, 1)
        for axes in (left, right):
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))

    return draw("training", 2.5, paint)


def calibration_figure(calibration: Calibration) -> Markup:
    """Draw the true over the expected mean Dice of each validation case at each size of its anatomy, expected without knowing the case."""
    kinds = {"smaller": BLUE, "larger": GREEN, "natural size": ORANGE}

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for kind, colour in kinds.items():
            points = [(expected, dice) for size, expected, dice in calibration.points if _kind(size) == kind]
            if points:
                expected, dice = np.array(points).T
                axes.scatter(expected, dice, s=14, color=colour, alpha=0.6, linewidths=0, label=kind)
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
        axes.axvline(calibration.usual, color=INK, linewidth=0.8, linestyle=":")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("expected mean Dice")
        axes.set_ylabel("true mean Dice")
        only_horizontal_grid(axes)
        if calibration.points:
            figure.legend(loc="outside upper left", ncols=3, handlelength=1.5)

    return draw("calibration", 3.2, paint)


def _kind(size: float) -> str:
    return "natural size" if size == 1 else "smaller" if size < 1 else "larger"


def robustness_figure(
    results: Mapping[str, Mapping[str, Mapping[float, float | None]]], name: str = "robustness", *, with_names: bool = False
) -> Markup:
    """Draw Dice over sizes of the anatomy, a line for each model (named if requested) and way of ensembling."""
    lines = []
    for model, ways in results.items():
        for way, sizes in ways.items():
            points = {size: dice for size, dice in sorted(sizes.items()) if dice is not None}
            lines.append(Line(f"{shortened(model)}, {way}" if with_names else way, list(points), list(points.values())))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        _over_factors(axes, lines)
        axes.set_ylim(0, 1)
        axes.set_xlabel("size of the anatomy, relative to the original")
        axes.set_ylabel("mean foreground Dice")

    return draw(name, 2.6, paint)


def equivariance_figure(curves: dict[str, EquivarianceCurve], name: str = "equivariance", *, one_of_each: bool = False) -> Markup:
    """Draw equivariance errors over factors, on cases and on random fields, or one line for each model with its name."""
    lines = []
    for model, curve in curves.items():
        shown = {"validation cases": curve.on_cases, "random fields": curve.on_fields}
        if one_of_each:
            shown = {shortened(model): curve.shown}
        for title, errors in shown.items():
            if errors:
                points = sorted([(1.0, 0.0), *zip(curve.factors, errors, strict=True)])
                lines.append(Line(title, *map(list, zip(*points, strict=True))))

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        _over_factors(axes, lines)
        axes.set_ylim(0, max(0.02, 1.15 * max(max(line.y) for line in lines)))
        axes.set_xlabel("enlargement factor")
        axes.set_ylabel("equivariance error")

    return draw(name, 2.4, paint)


def _interval(axes: Axes, summary: Summary, height: float) -> None:
    if summary.interval is not None:
        axes.plot(summary.interval, [height] * 2, color=ORANGE, linewidth=2.2, solid_capstyle="butt")
    axes.plot([summary.mean], [height], marker="o", markersize=4.5, color=ORANGE, markeredgewidth=0)


def _column(log: pd.DataFrame, column: str, name: str) -> Line:
    measured = log[["epoch", column]].dropna() if column in log else pd.DataFrame({"epoch": [], column: []})
    return Line(name, measured["epoch"].tolist(), measured[column].tolist())


def _curves(axes: Axes, lines: Sequence[Line], folds: int) -> None:
    """Draw pairs of lines, in one colour per fold if there are several folds; lines without points are omitted."""
    for index, line in enumerate(lines):
        if not line.x:
            continue
        colour = (BLUE, ORANGE, GREEN)[index // 2 if folds > 1 else index]
        dash = "-" if folds == 1 or index % 2 else (0, (4, 2))
        marker = "." if len(line.x) <= _FEW_EPOCHS else None
        axes.plot(line.x, line.y, color=colour, linestyle=dash, linewidth=1.3, marker=marker, markersize=4, label=line.name)
    if axes.lines:
        axes.legend(fontsize=7)


def _over_factors(axes: Axes, lines: Sequence[Line]) -> None:
    for line, (colour, dash) in zip(lines, _STYLES, strict=False):
        axes.plot(line.x, line.y, color=colour, linestyle=dash, linewidth=1.5, marker="o", markersize=3.5, label=line.name)
    axes.set_xscale("log")
    ticks = sorted({x for line in lines for x in line.x})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.legend(fontsize=7, loc="best")
