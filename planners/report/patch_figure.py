"""Draw the planned patch over slices of a typical case."""

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from configs.dataset import DatasetDescription
from configs.plan import ConfigurationPlan
from planners.report.median_case import Slices, patch_start
from preprocessing.pages.figures import BLUE, ORANGE, WIDTH, draw, label_colours

_ACROSS = ((0, 1, 2), (1, 0, 2), (2, 0, 1))  # of (Z, Y, X): the axis across each slice, the axis of its rows, that of its columns
_DRAWN = "ZYX"
_MOST_PIXELS = 360  # pixels along a side that suffice for the width of a panel
_TALLEST = 4.0  # inches
_STYLES = ((ORANGE, "-"), (BLUE, (0, (5, 3))))


def patch_figure(slices: Slices, configuration: ConfigurationPlan, description: DatasetDescription, name: str) -> Markup:
    """Draw three slices with the outlines of the labels and of each network's patch, true to scale."""
    grid = configuration.grid_spacing(slices.spacing)
    patches = [
        tuple(size * length for size, length in zip(network.patch_size, grid, strict=True))
        for network in configuration.networks.values()
    ]
    low, high = _frame(slices, patches)
    lengths = [high[axis] - low[axis] for axis in range(3)]
    widths = [lengths[columns] for _, _, columns in _ACROSS]
    scale = (WIDTH - 1.6) / sum(widths)
    height = min(_TALLEST, max(lengths[rows] for _, rows, _ in _ACROSS) * scale)
    window = np.percentile(np.concatenate([image.ravel() for image in slices.images]), (0.5, 99.5))

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, 3, width_ratios=widths)
        for panel, view in zip(panels, _ACROSS, strict=True):
            _show(panel, slices, view, (float(window[0]), float(window[1])))
            _outline_labels(panel, slices, view, description)
            for patch, (colour, style) in zip(patches, _STYLES, strict=False):
                _outline_patch(panel, slices, view, patch, colour, style)
            _, rows, columns = view
            panel.set_xlim(low[columns], high[columns])
            panel.set_ylim(low[rows], high[rows])
            panel.set_xlabel(f"{_DRAWN[columns]}, mm")
            panel.set_ylabel(f"{_DRAWN[rows]}, mm")
            panel.grid(visible=False)

    return draw(name, height + 0.65, paint)


def _frame(slices: Slices, patches: list[tuple[float, ...]]) -> tuple[list[float], list[float]]:
    """Return the corners in mm of the drawn region: the image and all patches, with a margin."""
    low, high = [], []
    for axis in range(3):
        starts = [patch_start(slices.centre[axis], patch[axis], slices.extent[axis]) for patch in patches]
        ends = [start + patch[axis] for start, patch in zip(starts, patches, strict=True)]
        first, last = min([0.0, *starts]), max([slices.extent[axis], *ends])
        margin = 0.02 * max(slices.extent)
        low.append(first - margin)
        high.append(last + margin)
    return low, high


def _show(panel: Axes, slices: Slices, view: tuple[int, int, int], window: tuple[float, float]) -> None:
    across, rows, columns = view
    image = slices.images[across]
    step = [max(1, -(-size // _MOST_PIXELS)) for size in image.shape]
    extent = (0.0, slices.extent[columns], 0.0, slices.extent[rows])
    panel.imshow(
        image[:: step[0], :: step[1]],
        cmap="gray",
        vmin=window[0],
        vmax=window[1] if window[1] > window[0] else window[0] + 1,
        origin="lower",
        extent=extent,
        aspect="equal",
        interpolation="none",
    )


def _outline_labels(panel: Axes, slices: Slices, view: tuple[int, int, int], description: DatasetDescription) -> None:
    if slices.labels is None:
        return
    across, rows, columns = view
    labels = np.pad(slices.labels[across], 1)  # closes outlines at the border
    vertical = (np.arange(labels.shape[0]) - 0.5) * slices.spacing[rows]
    horizontal = (np.arange(labels.shape[1]) - 0.5) * slices.spacing[columns]
    for label, colour in zip(description.foreground, label_colours(len(description.foreground)), strict=True):
        mask: NDArray[np.bool_] = np.isin(labels, description.class_indices(label))
        if mask.any():
            panel.contour(horizontal, vertical, mask, levels=[0.5], colors=[colour], linewidths=0.9)


def _outline_patch(
    panel: Axes, slices: Slices, view: tuple[int, int, int], patch: tuple[float, ...], colour: str, style: object
) -> None:
    _, rows, columns = view
    corner = [patch_start(slices.centre[axis], patch[axis], slices.extent[axis]) for axis in (columns, rows)]
    panel.add_patch(
        Rectangle(
            (corner[0], corner[1]), patch[columns], patch[rows], fill=False, edgecolor=colour, linewidth=1.6, linestyle=style
        )
    )
