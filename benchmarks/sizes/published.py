"""The comparison of Wimmer et al. 2023, figures of Dice over size and over the number of cases, with rules that do not favour a network.

    python -m benchmarks.sizes.published DATASET WORK [--cases 10 112] [--steps 500] [--csv FILE] [--figure FILE]

Both published networks train on anatomy of one size (no random scaling), alike in all but the learning rate, which is the better of
`RATES` on the validation cases for each network with the fewest cases. Widths are reduced alike (`--part`), so that a CPU can train them.
All sizes are then measured once on the test cases (`imagesTs`), whose images are resampled as a whole. Finished trainings in WORK are kept.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.figures import svg_axes
from benchmarks.common.tables import show_table
from benchmarks.common.trainings import run, trained
from benchmarks.evidence.conditions import test_cases
from benchmarks.sizes.sized_tests import dice_at_sizes
from configs.files import read_json, write_json
from configs.folders import DatasetFolder, dataset_name
from configs.plan import PUBLISHED, Plan
from preprocessing.dataset.raw import open_dataset

Row = dict[str, Any]
RATES = (0.003, 0.01)
SIZES = (0.7, 0.8, 0.9, 1.0)
VALIDATION, SEED = 28, 0
COLUMNS = {"network": "{}", "cases": "{}", "steps": "{}", "learning_rate": "{:g}", "validation_dice": "{:.3f}"}
COLUMNS |= {f"{size:g}": "{:.3f}" for size in SIZES} | {"ratio": "{:.3f}"}


def main() -> int:
    """Train what is missing, print the table, and write it and the figure where asked. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="raw dataset")
    parser.add_argument("work", type=Path, help="plans and models are kept here")
    parser.add_argument("--cases", type=int, nargs="+", default=[10, 112], help="numbers of training cases, ascending")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--part", type=float, default=0.5, help="share of the published widths; default: %(default)s")
    parser.add_argument("--most", type=int, help="largest number of test cases; default: all")
    parser.add_argument("--csv", type=Path, help="CSV file of the table")
    parser.add_argument("--figure", type=Path, help="SVG file of the figure")
    given = parser.parse_args()
    rows = [row for network in PUBLISHED for row in rows_of(network, given)]
    show_table(rows, COLUMNS, given.csv)
    if given.figure:
        draw(rows, given.figure)
    return 0


def rows_of(network: str, given: argparse.Namespace) -> list[Row]:
    """Return a row for each number of cases, all with the learning rate that is best with the fewest."""
    few = given.cases[0]
    rate = max(RATES, key=lambda one: _validated(network, few, one, given))
    return [_row(network, cases, rate, given) for cases in given.cases]


def _row(network: str, cases: int, rate: float, given: argparse.Namespace) -> Row:
    validated = _validated(network, cases, rate, given)
    model = _planned(cases, given).model("3d_fullres", network, _tag(rate, given))
    results = model.path / "sizes.json"
    if not results.is_file():
        tested = dict(list(test_cases(given.dataset, cases, SEED).items())[: given.most])
        write_json(results, dice_at_sizes(model.path, tested, SIZES)["none"])
    dice = read_json(results)
    facts = {"network": network, "cases": cases, "steps": given.steps, "learning_rate": rate, "validation_dice": validated}
    return facts | dice | {"ratio": dice[f"{SIZES[0]:g}"] / dice["1"]}


def _validated(network: str, cases: int, rate: float, given: argparse.Namespace) -> float:
    """Train unless that is done, and return the mean Dice of the validation cases."""
    planned = _planned(cases, given)
    published = Plan.read(planned.plan).network("3d_fullres", network).network.features[0]
    settings = [f"base_features={max(1, round(given.part * published))}", f"learning_rate={rate}"]
    settings += ["batch_size=2", "augment_scale=false", "validation_iterations=10"]
    found = trained(planned, network, _tag(rate, given), "quick", given.steps, SEED, "--set", *settings)
    return float(found.mean_foreground_dice or 0.0)


def _tag(rate: float, given: argparse.Namespace) -> str:
    return f"{given.steps}_rate_{rate:g}"


def _planned(cases: int, given: argparse.Namespace) -> DatasetFolder:
    """Plan the published networks for the first of the training cases in an order that a seed draws; the last ones validate."""
    work = given.work / f"cases_{cases}"
    planned = DatasetFolder(work / dataset_name(given.dataset))
    if not planned.splits.is_file():
        order = [str(case) for case in np.random.default_rng(SEED).permutation(sorted(open_dataset(given.dataset).cases))]
        work.mkdir(parents=True, exist_ok=True)
        write_json(work / "splits.json", [{"train": sorted(order[:cases]), "val": sorted(order[-VALIDATION:])}])
        words = [given.dataset, "--work", work, "--configurations", "3d_fullres", "--network", *PUBLISHED]
        run("se_plan_and_preprocess", "--quiet", *words, "--splits", work / "splits.json", "--jobs", "1")
    return planned


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw the Dice over the size: a colour for each network, dotted for few cases and solid for many."""
    with svg_axes(path, 7.0, 4.0) as axes:
        numbers = sorted({row["cases"] for row in rows})
        for row in rows:
            colour, dash = f"C{PUBLISHED.index(row['network'])}", ":" if row["cases"] == numbers[0] else "-"
            values = [row[f"{size:g}"] for size in SIZES]
            axes.plot(SIZES, values, dash, color=colour, marker="o", label=f"{row['network']}, {row['cases']} cases")
        axes.set(xlabel="size of the anatomy (training: 1)", ylabel="mean Dice of test cases", ylim=(0, 1))
        axes.legend(frameon=False, fontsize="small")
        axes.grid(alpha=0.3)


if __name__ == "__main__":
    sys.exit(main())
