"""The figure of the Dice over the size of the anatomy, for several models and two ways to predict."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.figures import svg_axes


def draw_over_sizes(
    rows: Sequence[Mapping[str, Any]], path: Path, name: str, ways: Mapping[str, tuple[str, str]], cases: str
) -> None:
    """Draw the Dice over the size of the anatomy: a colour for each model, a dash for each way to predict.

    Args:
        rows: one for each model and size, with the column `size`.
        path: SVG file to write.
        name: column with the name of the model.
        ways: column of the Dice -> dash and words for this way.
        cases: what the Dice is a mean of, as in "validation cases".
    """
    with svg_axes(path, 7.5, 4.0) as axes:
        for number, model in enumerate(dict.fromkeys(row[name] for row in rows)):
            own = [row for row in rows if row[name] == model]
            sizes = [float(row["size"]) for row in own]
            for column, (dash, words) in ways.items():
                values = [float(row[column]) for row in own]
                axes.plot(sizes, values, dash, color=f"C{number}", marker="o", label=f"{model}, {words}")
        ticks = sorted({float(row["size"]) for row in rows})
        axes.set(xscale="log", xlabel="size of the anatomy (training: 1)", ylabel=f"mean Dice of {cases}", ylim=(0, 1))
        axes.set_xticks(ticks, [f"{size:.2f}" for size in ticks])
        axes.minorticks_off()
        axes.legend(frameon=False, fontsize="small")
        axes.grid(alpha=0.3)
