"""Compare the Dice on anatomy that is smaller or larger than in training, with and without scale augmentation and scale ensembling.

    python -m benchmarks.sizes.scale_robustness DATASET WORK OUTPUT --networks baseline se se4 --cases 140 --seeds 0 1 2 [--one-size]
    python -m benchmarks.sizes.scale_robustness DATASET WORK OUTPUT --csv scale_robustness.csv --figure scale_robustness.svg

Trained as in `benchmarks.evidence.few_cases`, whose trainings under WORK are used. Images and labels of the test cases are resampled, their
spacing is left as it was: the anatomy itself is smaller or larger. The image becomes smaller or larger with it, nothing is painted
around. `drop` is what the worst size loses against size 1.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.common.figures import svg_axes
from benchmarks.evidence.condition_options import Result, label_of, parser_of, run_missing, show
from benchmarks.sizes.sized_tests import WAYS, dice_at_sizes

FACTORS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.6, 2.0)
JUDGED = (0.6, 1.6)  # sizes between these count for the drop


def main() -> int:
    """Run the missing trainings, print the table, and write CSV and figure on request. Returns the exit code."""
    parser = parser_of(__doc__)
    parser.add_argument("--cases", type=int, default=140, help="number of training cases; default: %(default)s")
    parser.add_argument(
        "--factors", nargs="+", type=float, default=list(FACTORS), help="factors of the anatomy's size, which include 1"
    )
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="ways of scale ensembling in prediction")
    arguments = parser.parse_args()
    sizes, ways = arguments.factors, arguments.ways
    results = run_missing(arguments, [arguments.cases], lambda model, cases: dice_at_sizes(model, cases, sizes, ways))
    rows = rows_of(results)
    show(arguments, rows, columns_of(rows), draw)
    return 0


def rows_of(results: Sequence[Result]) -> list[Result]:
    """One row for each network and way of ensembling: means over the seeds, the worst of the judged sizes, and its drop from size 1."""
    groups: dict[tuple[str, str, int], list[dict[str, float]]] = {}
    for result in results:
        for way, dice in result["dice"].items():
            groups.setdefault((label_of(result), way, result["cases"]), []).append(dice)
    rows = []
    for (network, way, cases), curves in sorted(groups.items()):
        means = {size: float(np.mean([curve[size] for curve in curves])) for size in curves[0]}
        worst = min(dice for size, dice in means.items() if JUDGED[0] <= float(size) <= JUDGED[1])
        rows.append(
            {"network": network, "ensemble": way, "cases": cases, "seeds": len(curves), **means, "worst": worst,
             "drop": means["1"] - worst}
        )  # fmt: skip
    return rows


def columns_of(rows: Sequence[Result]) -> dict[str, str]:
    """Return the columns of the table, with the format of their values."""
    columns = {"network": "{}", "ensemble": "{}", "cases": "{:d}", "seeds": "{:d}"}
    return columns | dict.fromkeys(_sizes(rows), "{:.3f}") | {"worst": "{:.3f}", "drop": "{:.3f}"}


def _sizes(rows: Sequence[Result]) -> list[str]:
    return sorted({name for row in rows for name in row if name.replace(".", "").isdigit()}, key=float)


def draw(rows: Sequence[Result], path: Path) -> None:
    """Draw the Dice over the size, with a colour for each network and a dash for each way of ensembling."""
    with svg_axes(path, 7.5, 4.5) as axes:
        networks, sizes = list(dict.fromkeys(row["network"] for row in rows)), _sizes(rows)
        dashes = dict(zip(WAYS, (":", "--", "-"), strict=True))
        for row in rows:
            places = [size for size in sizes if size in row]
            colour, name = f"C{networks.index(row['network'])}", f"{row['network']}, {row['ensemble']}"
            axes.plot(
                [float(size) for size in places],
                [row[size] for size in places],
                dashes[row["ensemble"]],
                color=colour,
                label=name,
            )
        axes.set(
            xscale="log", xlabel="size of the anatomy (training: 1)", ylabel="mean foreground Dice on test cases", ylim=(0, 1)
        )
        axes.set_xticks([float(size) for size in sizes], sizes)
        axes.minorticks_off()
        axes.legend(frameon=False, fontsize="small")
        axes.grid(alpha=0.3)


if __name__ == "__main__":
    sys.exit(main())
