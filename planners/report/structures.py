"""Draw the volumes and sizes of the labels, and the scale group."""

import math

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from configs.fingerprint import Fingerprint
from configs.network import ScaleGroup
from planners.report.distributions import fit_values, strip
from preprocessing.pages.figures import (
    BLUE,
    GREEN,
    ORANGE,
    draw,
    only_horizontal_grid,
    only_vertical_grid,
    plain_ticks,
    shortened,
)

_ROW = 0.24  # inches for each label
_MOST_DOTS = 3000  # largest number of structures drawn for each label


def label_figure(fingerprint: Fingerprint) -> Markup | None:
    """Draw the volume of each label in every case and the size of every structure. Returns None where no label occurs."""
    labels = list(fingerprint.size_spread)
    if not labels:
        return None

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        for row, label in enumerate(labels):
            strip(left, volumes(fingerprint, label), row)
            strip(right, diameters(fingerprint, label)[0][:_MOST_DOTS], row)
            spread = fingerprint.size_spread[label]
            right.plot([spread.q10, spread.q90], [row, row], color=ORANGE, linewidth=1.6, solid_capstyle="butt")
            right.plot([spread.q50, spread.q50], [row - 0.35, row + 0.35], color=ORANGE, linewidth=1.6)
        left.set_yticks(range(len(labels)), [shortened(label) for label in labels])
        left.set_ylim(len(labels) - 0.4, -0.6)
        for axes, unit, title in ((left, "mm³", "Volume in each case"), (right, "mm", "Diameter of each structure")):
            fit_values(axes, np.concatenate([np.asarray(line.get_xdata(), dtype=float) for line in axes.lines]))
            axes.set_xlabel(unit)
            axes.set_title(title)
            only_vertical_grid(axes)

    return draw("labels", 0.75 + _ROW * max(2, len(labels)), paint)


def scale_figure(fingerprint: Fingerprint, group: ScaleGroup | None, name: str) -> Markup | None:
    """Draw the sizes of the label whose sizes vary most, and the scales around their median, if there are a label and scales."""
    if group is None or not fingerprint.size_spread:
        return None
    label = widest_label(fingerprint)
    spread = fingerprint.size_spread[label]
    sizes, votes = diameters(fingerprint, label)
    scales = [spread.q50 * group.step ** (index - (group.number - 1) / 2) for index in range(group.number)]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        low = min(sizes.min(), scales[0], spread.q10) / 1.15
        high = max(sizes.max(), scales[-1], spread.q90) * 1.15
        edges = np.geomspace(low, high, 41)
        counts, _ = np.histogram(sizes, edges, weights=100 * votes / votes.sum())
        axes.stairs(counts, edges, fill=True, color=BLUE, alpha=0.75, label=f"structures of {shortened(label)}, by volume")
        top = float(counts.max()) * 1.12
        axes.plot([spread.q10, spread.q90], [top, top], color=ORANGE, linewidth=2, label="q10 to q90 used for planning")
        axes.plot([spread.q50], [top], "o", color=ORANGE, markersize=4)
        above = top * 1.12
        axes.plot(scales, [above] * len(scales), "-", color=GREEN, linewidth=1)
        axes.plot(scales, [above] * len(scales), "D", color=GREEN, markersize=5, label="scales of the group around the median")
        for scale in scales:
            axes.axvline(scale, ymax=1 / 1.1, color=GREEN, linewidth=0.7, linestyle=":")
        axes.set_ylim(0, above * 1.1)
        axes.set_yticks([tick for tick in MaxNLocator(5).tick_values(0, counts.max()) if tick <= counts.max()])
        axes.set_xscale("log" if high > 3 * low else "linear")
        axes.set_xlim(low, high)
        plain_ticks(axes.xaxis, math.log10(high / low))
        axes.set_xlabel("diameter, mm")
        axes.set_ylabel("% of volume")
        only_horizontal_grid(axes)
        figure.legend(loc="outside upper left", ncols=3, handlelength=1.5)

    return draw(name, 2.3, paint)


def widest_label(fingerprint: Fingerprint) -> str:
    """Return the label whose sizes vary most, which `--num-scales spread` follows."""
    return max(fingerprint.size_spread, key=lambda name: fingerprint.size_spread[name].q90 / fingerprint.size_spread[name].q10)


def volumes(fingerprint: Fingerprint, label: str) -> NDArray[np.float64]:
    """Return the volume in mm³ of a label in each case that has it."""
    found = [case.labels[label].volume for case in fingerprint.cases.values() if label in case.labels]
    return np.array([volume for volume in found if volume > 0])


def diameters(fingerprint: Fingerprint, label: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the diameter in mm (of a ball of the same volume) and the share of the case's volume, for each component of a label."""
    sizes, votes = [], []
    for case in fingerprint.cases.values():
        components = case.labels[label].component_volumes if label in case.labels else ()
        sizes += [(6 / math.pi * volume) ** (1 / 3) for volume in components]
        votes += [volume / sum(components) for volume in components]
    return np.array(sizes), np.array(votes)
