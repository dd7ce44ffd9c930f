"""Figures as SVG: the same numbers give the same file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from configs.files import replacing


@contextmanager
def svg_axes(path: Path, width: float, height: float, panels: int = 1) -> Iterator[Any]:
    """Axes to draw into, of a figure of so many inches, or a sequence of them side by side; the file is written whole at the end."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "se-unet"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, panels, figsize=(width, height), layout="constrained")
    try:
        yield axes
        with replacing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})
    finally:
        pyplot.close(figure)
