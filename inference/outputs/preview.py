"""Draw a segmentation as slices of the image with the outlines of its labels."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from configs.files import replacing

COLUMNS = 6
INCHES = 2.2
NARROWEST = 4.4  # inches of all slices together, for legend and caption
LEGEND = 24  # labels at most, so that the legend does not hide the figure


def montage(
    image: NDArray,
    labels: NDArray[np.integer] | Sequence[NDArray[np.integer]],
    path: Path,
    titles: Sequence[str] = (),
    *,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    names: dict[int, str] | None = None,
    caption: str = "",
) -> None:
    """Draw evenly spaced slices of an image across Z, one row for each segmentation (Z, Y, X), and save them atomically as PNG.

    The image is one channel (Z, Y, X), or colours (Z, Y, X, 3) uint8. Slices span the part of Z where any segmentation has a label, or all
    of Z if there is none. Grey values run from the image's 1st to its 99th percentile; X increases to the right and Y upwards. The spacing
    (Z, Y, X) in mm gives the proportions. Rows may have `titles`, and label values may have `names` for the legend. The `caption` stands
    above.

    Raises:
        ValueError: a segmentation's shape differs from the image's, or the number of titles is wrong.
    """
    rows = [labels] if isinstance(labels, np.ndarray) else list(labels)
    if not rows or any(row.shape != image.shape[:3] for row in rows):
        raise ValueError(f"each segmentation must have the image's shape {image.shape[:3]}, not {[row.shape for row in rows]}")
    if titles and len(titles) != len(rows):
        raise ValueError(f"there are {len(titles)} titles for {len(rows)} segmentations")
    slices = _choose_slices(rows)
    colours = _colours(rows)
    height = image.shape[1] * spacing[1] / (image.shape[2] * spacing[2])
    width = max(INCHES, NARROWEST / len(slices))
    size = (width * len(slices), width * len(rows) * min(max(height, 0.3), 3.0) + 0.5)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    grid = figure.subplots(len(rows), len(slices), squeeze=False)
    low, high = np.percentile(image, (1, 99))
    for row, panels in zip(rows, grid, strict=True):
        for index, panel in zip(slices, panels, strict=True):
            panel.imshow(image[index], cmap="gray", vmin=low, vmax=high, origin="lower", aspect=spacing[1] / spacing[2])
            _outline(panel, row[index], colours)
            panel.set_xticks([])
            panel.set_yticks([])
    for index, panel in zip(slices, grid[-1], strict=True):
        panel.set_xlabel(f"Z = {index}", fontsize=8)
    for title, panels in zip(titles, grid, strict=False):
        panels[0].set_ylabel(title, fontsize=9)
    if caption:
        figure.suptitle(caption, fontsize=8)
    _legend(figure, colours, names or {})
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _choose_slices(rows: Sequence[NDArray]) -> list[int]:
    depth = rows[0].shape[0]
    occupied = np.flatnonzero(np.any([row.any(axis=(1, 2)) for row in rows], axis=0))
    first, last = (int(occupied[0]), int(occupied[-1])) if occupied.size else (0, depth - 1)
    count = min(COLUMNS, last - first + 1)
    margins = np.linspace(first, last, count + 2)[1:-1] if last - first + 1 > COLUMNS else np.linspace(first, last, count)
    return [round(float(position)) for position in margins]


def _colours(rows: Sequence[NDArray]) -> dict[int, tuple[float, float, float, float]]:
    values = sorted({int(value) for row in rows for value in np.unique(row)} - {0})
    palette = matplotlib.colormaps["tab10" if len(values) <= 10 else "hsv"]
    return {value: palette(index if len(values) <= 10 else index / len(values)) for index, value in enumerate(values)}


def _outline(panel: Axes, labels: NDArray, colours: dict[int, tuple[float, float, float, float]]) -> None:
    padded = np.pad(labels, 1)  # closes outlines at the border of the image
    y, x = (np.arange(size) - 1 for size in padded.shape)
    for value in np.unique(labels):
        if value:
            panel.contour(x, y, padded == value, levels=[0.5], colors=[colours[int(value)]], linewidths=1.0)
    panel.set_xlim(-0.5, labels.shape[1] - 0.5)
    panel.set_ylim(-0.5, labels.shape[0] - 0.5)


def _legend(figure: Figure, colours: dict[int, tuple[float, float, float, float]], names: dict[int, str]) -> None:
    handles = [Line2D([], [], color=colour, label=names.get(value, str(value))) for value, colour in colours.items()]
    if 0 < len(handles) <= LEGEND:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), fontsize=8, frameon=False)
