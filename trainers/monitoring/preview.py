"""Draw training patches before and after augmentation."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from configs.files import replacing
from trainers.data.batches import BatchKey, BatchMaker, Patch

PATCHES = 6


def write_preview(maker: BatchMaker, path: Path, batch_size: int) -> None:
    """Draw the middle slices of the first training patches, before and after augmentation, and save them as PNG.

    The figure shows the first channel with the outlines of the labels.
    """
    figure = Figure(figsize=(2.2 * PATCHES, 4.8))
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, PATCHES, squeeze=False)
    for column in range(PATCHES):
        index, position = divmod(column, batch_size)
        before, after = maker.pair(BatchKey("training", 0, index), position)
        for row, (patch, title) in enumerate(((before, "read"), (after, "augmented"))):
            _draw(grid[row, column], patch, f"{title} {column + 1}")
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _draw(axes: Axes, patch: Patch, title: str) -> None:
    image, labels = patch
    middle = image.shape[1] // 2
    axes.imshow(image[0, middle], cmap="gray", interpolation="nearest")
    for value in np.unique(labels[middle])[1:] if labels[middle].any() else ():
        axes.contour(labels[middle] == value, levels=[0.5], colors=[f"C{int(value) % 10}"], linewidths=1)
    axes.set_title(title, fontsize=8)
    axes.set_axis_off()
