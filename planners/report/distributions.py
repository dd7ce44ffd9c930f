"""Draw the spacings, sizes and intensities of the cases."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from configs.fingerprint import Fingerprint, IntensityHistogram, IntensityStatistics
from configs.plan import Plan
from preprocessing.pages.figures import (
    BLUE,
    ORANGE,
    SOFT,
    WIDTH,
    draw,
    only_horizontal_grid,
    only_vertical_grid,
    plain_ticks,
    scale_for,
    shortened,
)

_AXES = ("Z", "Y", "X")
_GOLDEN = 0.618034
_HEIGHT = 0.55  # of a row of dots
_FEW = 10  # rows of at most this many dots have large ones


def geometry_figure(fingerprint: Fingerprint, plan: Plan) -> Markup:
    """Draw the spacing and size of every case along each axis, with the planned spacings and the median size."""
    cases = fingerprint.cases.values()
    spacings = np.array([case.spacing for case in cases])
    shapes = np.array([case.shape_after_crop for case in cases])
    planned = [configuration.spacing for configuration in plan.configurations.values()]
    medians = [[float(size) for size in np.median(shapes, axis=0)]]

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        _axis_strips(left, spacings, planned)
        left.set_title("Spacing")
        left.set_xlabel("mm")
        _axis_strips(right, shapes, medians)
        right.set_title("Size after the crop to nonzero")
        right.set_xlabel("voxels")

    return draw("geometry", 1.75, paint)


def intensity_figure(fingerprint: Fingerprint, channels: Sequence[str]) -> Markup | None:
    """Draw the intensities of each channel, over all cases and case by case. Returns None where no case has foreground."""
    if not fingerprint.histograms:
        return None
    measured = [case.intensities for case in fingerprint.cases.values() if case.intensities]

    def paint(figure: Figure) -> None:
        rows = figure.subplots(len(channels), 2, squeeze=False)
        for index, (name, panels) in enumerate(zip(channels, rows, strict=True)):
            _pooled(panels[0], fingerprint.histograms[index], fingerprint.intensities[index])
            panels[0].set_title(f"{shortened(name)}: all cases together")
            quantiles = [case[index] for case in measured]
            _by_case(panels[1], np.array([(found.q05, found.q50, found.q95) for found in quantiles]))
            panels[1].set_title(f"{shortened(name)}: case by case")
        rows[-1][0].set_xlabel("intensity")
        rows[-1][1].set_xlabel("cases, by median")

    return draw("intensities", 0.25 + 1.6 * len(channels), paint)


def strip(axes: Axes, values: ArrayLike, row: float) -> None:
    """Draw one dot for each value of a row, spread over the height of the row so that equal values remain visible."""
    values = np.asarray(values, dtype=float)
    spread = ((np.arange(len(values)) * _GOLDEN) % 1.0 - 0.5) * (_HEIGHT if len(values) > 1 else 0)
    size, alpha = (3.2, 0.55) if len(values) > _FEW else (4.2, 0.9)
    axes.plot(values, row + spread, "o", color=BLUE, markersize=size, markeredgewidth=0, alpha=alpha)


def fit_values(axes: Axes, values: ArrayLike) -> None:
    """Set scale, limits and ticks of the horizontal axis for the values, with a margin even for a single value."""
    values = np.asarray(values, dtype=float)
    low, high = float(values.min()), float(values.max())
    if scale_for(values) == "log":
        axes.set_xscale("log")
        axes.set_xlim(low / 1.3, high * 1.3)
        plain_ticks(axes.xaxis, float(np.log10(high / low)))
        return
    margin = max(0.06 * (high - low), 0.05 * max(abs(high), abs(low)), 1e-9)
    axes.set_xlim(low - margin, high + margin)
    plain_ticks(axes.xaxis)


def _axis_strips(axes: Axes, values: NDArray, marks: Sequence[Sequence[float]]) -> None:
    for row in range(3):
        strip(axes, values[:, row], row)
        for mark in marks:
            position = mark[row]
            axes.plot([position, position], [row - 0.38, row + 0.38], color=ORANGE, linewidth=1.6)
    axes.set_yticks(range(3), _AXES)
    axes.set_ylim(2.6, -0.6)
    fit_values(axes, np.concatenate([values.ravel(), np.array(marks).ravel()]))
    only_vertical_grid(axes)


def _pooled(axes: Axes, histogram: IntensityHistogram, statistics: IntensityStatistics) -> None:
    total = sum(histogram.counts) + histogram.below + histogram.above
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    axes.stairs(100 * np.array(histogram.counts) / total, edges, fill=True, color=BLUE, alpha=0.75)
    for value, style in ((statistics.median, "-"), (statistics.percentile_00_5, ":"), (statistics.percentile_99_5, ":")):
        if histogram.low <= value <= histogram.high:
            axes.axvline(value, color=ORANGE, linewidth=1.3, linestyle=style)
    axes.set_ylabel("% of voxels")
    plain_ticks(axes.xaxis)
    plain_ticks(axes.yaxis)
    beyond = 100 * (histogram.below + histogram.above) / total
    if beyond >= 1.5:
        axes.text(0.98, 0.93, f"{beyond:.0f} % beyond", transform=axes.transAxes, ha="right", va="top", color=SOFT)
    only_horizontal_grid(axes)


def _by_case(axes: Axes, quantiles: NDArray) -> None:
    """Draw a bar from the 5th to the 95th percentile of each case with a dot at its median, ordered by median."""
    ordered = quantiles[np.argsort(quantiles[:, 1], kind="stable")]
    positions = np.arange(1, len(ordered) + 1)
    slot = 72 * WIDTH * 0.4 / (len(ordered) + 1)  # points for each case
    axes.vlines(positions, ordered[:, 0], ordered[:, 2], color=BLUE, linewidth=min(2.4, max(0.4, 0.7 * slot)), alpha=0.5)
    axes.plot(positions, ordered[:, 1], "o", color=BLUE, markersize=min(4.0, max(1.2, slot)), markeredgewidth=0)
    axes.set_yscale(scale_for(quantiles))
    plain_ticks(axes.yaxis, float(np.log10(quantiles.max() / quantiles.min())) if axes.get_yscale() == "log" else 0)
    axes.set_xlim(0.3, len(ordered) + 0.7)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    only_horizontal_grid(axes)
