"""Draw figures as SVG. Equal numbers give equal files."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import Any

from configs.files import replacing


@contextmanager
def svg_axes(path: Path, width: float, height: float, panels: int = 1, columns: int = 3) -> Iterator[Any]:
    """Yield axes of a size in inches, or an array of axes. The file is written atomically at the end."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "se-unet"
    from matplotlib import pyplot

    columns = min(panels, columns)
    rows = ceil(panels / columns)
    size = (width * columns, height * rows)
    figure, grid = pyplot.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for spare in grid.flat[panels:]:
        spare.set_axis_off()
    try:
        yield grid.flat[0] if panels == 1 else grid.flat[:panels]
        with replacing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})
    finally:
        pyplot.close(figure)
