"""Figures as inline SVG: text stays text, colours follow the page's theme, and equal figures give equal bytes."""

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

# Placeholder colours that no figure would use otherwise; the page replaces them by those of its light or dark theme.
INK, SOFT, LINE, BLUE, ORANGE, GREEN = (f"#0a0b{index:02x}" for index in range(6))
_THEME = {INK: "--ink", SOFT: "--soft", LINE: "--line", BLUE: "--blue", ORANGE: "--orange", GREEN: "--green"}

# Colours for grey images, equal in both themes: eight distinct ones, or evenly spread hues for more labels.
_DISTINCT = ("#ffe14d", "#4dd2ff", "#ff6b6b", "#5be37d", "#ff9df0", "#b39dff", "#00b894", "#d4a373")

WIDTH = 7.6  # inches
_WIDE = 30
_MOST_LETTERS = 26
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 8,
    "text.parse_math": False,  # names with dollar signs are plain text
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
}
_GROUP_NAMES = re.compile(r' id="[A-Za-z0-9.]+_\d+"')


def draw(name: str, height: float, paint: Callable[[Figure], None]) -> Markup:
    """Draw a figure, `height` inches high, as an `<svg>` element; `name` keeps the identifiers of several figures on a page distinct."""
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        paint(figure)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return Markup(_embedded(text.getvalue()))  # matplotlib has escaped all text


def label_colours(number: int) -> list[str]:
    """Return this many colours, for labels drawn on grey images."""
    if number <= len(_DISTINCT):
        return list(_DISTINCT[:number])
    hues = matplotlib.colormaps["hsv"]
    return [matplotlib.colors.to_hex(hues((index * 0.618034) % 1.0)) for index in range(number)]


def shortened(name: str) -> str:
    """Return a name truncated to fit beside a chart."""
    return name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}…"


def scale_for(values: ArrayLike) -> str:
    """Return `log` if all values are positive and span more than a factor of 30, else `linear`."""
    values = np.asarray(values, dtype=float)
    return "log" if values.min() > 0 and values.max() > _WIDE * values.min() else "linear"


def plain_ticks(axis: Axis, decades: float = 0.0) -> None:
    """Set few ticks in plain numbers; `decades` is the span of a logarithmic axis."""
    if axis.get_scale() == "log":
        axis.set_major_locator(LogLocator(subs=(1.0,) if decades > 2.5 else (1.0, 3.0) if decades > 1.3 else (1.0, 2.0, 5.0)))
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(nbins=5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: in_figures(value, 5)))


def in_figures(value: float, digits: int = 3) -> str:
    """Format a number with this many significant digits, without rounding its integer part."""
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:,.{digits}g}"


def only_horizontal_grid(axes: Axes) -> None:
    """Draw grid lines only for the values of the vertical axis."""
    axes.grid(visible=False, axis="x")


def only_vertical_grid(axes: Axes) -> None:
    """Draw grid lines only for the values of the horizontal axis."""
    axes.grid(visible=False, axis="y")


def _embedded(svg: str) -> str:
    """Remove what only a separate file needs: prolog, metadata, size, global style and group names."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    opening, rest = svg.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', opening)
    if view is None:
        raise ValueError("the figure has no viewBox")
    rest = _GROUP_NAMES.sub("", rest)
    for drawn, variable in _THEME.items():
        rest = rest.replace(drawn, f"var({variable})")
    return f'<svg {view[0]} aria-hidden="true" focusable="false">{rest}'
