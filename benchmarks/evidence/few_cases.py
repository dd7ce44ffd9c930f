"""Compare the Dice by the number of training cases: scale-equivariant networks, the baseline, and nnU-Net.

    python -m benchmarks.evidence.few_cases DATASET WORK OUTPUT --networks baseline se se4 --sizes 5 10 25 140 --seeds 0 1 2
    python -m benchmarks.evidence.few_cases DATASET WORK OUTPUT --networks nnU-Net --sizes 10 140 --peer PEER/bin/python
    python -m benchmarks.evidence.few_cases DATASET WORK OUTPUT --csv few_cases.csv --figure few_cases.svg      # of all finished runs

A seed draws both the cases and the initial weights. All networks take the same number of steps of the same batch; widths are those of
the plan, divided alike. Measured on the dataset's own test cases, which nothing was chosen on, without reflections or scale ensembling.
Run it again to go on where it stopped.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.common.figures import svg_axes
from benchmarks.evidence.condition_options import Result, label_of, parser_of, run_missing, show
from benchmarks.sizes.sized_tests import dice_at_sizes

COLUMNS = {
    "network": "{}",
    "steps": "{:,d}",
    "cases": "{:d}",
    "seeds": "{:d}",
    "mean_dice": "{:.3f}",
    "lowest": "{:.3f}",
    "highest": "{:.3f}",
}

FAR_BELOW = 0.5  # of the best mean


def main() -> int:
    """Run the missing trainings, print the table, and write CSV and figure on request. Returns the exit code."""
    parser = parser_of(__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=[5, 10, 25, 140], help="numbers of training cases")
    arguments = parser.parse_args()
    results = run_missing(arguments, arguments.sizes, lambda model, cases: dice_at_sizes(model, cases, (1.0,))["none"]["1"])
    rows = rows_of(results)
    show(arguments, rows, COLUMNS, draw)
    return 0


def rows_of(results: Sequence[Result]) -> list[Result]:
    """Return one row for each network and number of cases: mean and range over the seeds."""
    groups: dict[tuple[str, int, int], list[float]] = {}
    for result in results:
        groups.setdefault((label_of(result), result["steps"], result["cases"]), []).append(result["dice"])
    return [
        {"network": network, "cases": cases, "steps": steps, "seeds": len(dice), "mean_dice": float(np.mean(dice)),
         "lowest": min(dice), "highest": max(dice)}
        for (network, steps, cases), dice in sorted(groups.items())
    ]  # fmt: skip


def network_of(row: Result) -> str:
    """Return the network of a row without the way of its training."""
    return str(row["network"]).partition(",")[0]


def draw(rows: Sequence[Result], path: Path) -> None:
    """Dice over the number of cases, with the range of the seeds: a line for each network and number of steps that has one, dashed where
    training was at one size. Lines far below the best would flatten all others: the legend says where they are."""
    best = max((row["mean_dice"] for row in rows), default=0)
    with svg_axes(path, 7, 4) as axes:
        colours = {name: f"C{index}" for index, name in enumerate(dict.fromkeys(network_of(row) for row in rows))}
        for network, steps in dict.fromkeys((row["network"], row["steps"]) for row in rows):
            mine = sorted(
                (row for row in rows if (row["network"], row["steps"]) == (network, steps)), key=lambda row: row["cases"]
            )
            if len(mine) < 2:
                continue
            cases, mean, low, high = ([row[key] for row in mine] for key in ("cases", "mean_dice", "lowest", "highest"))
            label = f"{network}, {steps:,} steps"
            if max(mean) < FAR_BELOW * best:
                span = dict.fromkeys(f"{dice:.2f}" for dice in (min(mean), max(mean)))
                axes.plot([], [], " ", label=f"{label}: {' to '.join(span)}")
                continue
            colour = colours[network_of(mine[0])]
            axes.plot(cases, mean, "o-" if network == network_of(mine[0]) else "o--", color=colour, label=label)
            axes.fill_between(cases, low, high, color=colour, alpha=0.1, linewidth=0)
        axes.set(xscale="log", xlabel="training cases", ylabel="mean foreground Dice on test cases")
        ticks = sorted({row["cases"] for row in rows})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.legend(frameon=False, fontsize="small")
        axes.grid(alpha=0.3)


if __name__ == "__main__":
    sys.exit(main())
