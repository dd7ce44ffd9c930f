"""What the search of the size does to validation cases that its calibration does not know.

    python -m benchmarks.sizes.size_search MODEL ... [--known 8] [--csv FILE] [--figure FILE]

MODEL is a folder with `plan.json` and `fold_*/looks.json`, which training and `se_evaluate --calibrate` write. Some cases calibrate, drawn
anew several times, and the others are segmented at every size of their anatomy, as the looks tell.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.tables import show_table
from benchmarks.sizes.size_figure import draw_over_sizes
from configs.folders import ModelFolder
from configs.plan import ModelPlan
from inference.sizes.calibrate import Trial, calibrate, try_case
from inference.sizes.calibration import WIDEST
from inference.sizes.measure import Looks

Row = dict[str, Any]

COLUMNS = {
    "model": "{}",
    "size": "{:.2f}",
    "as_it_is": "{:.3f}",
    "with_search": "{:.3f}",
    "worst_change": "{:+.3f}",
    "searched": "{:.0%}",
    "error_of_expected": "{:.3f}",
}

WAYS = {"as_it_is": (":", "as it is"), "with_search": ("-", "with the search")}


def main(words: Sequence[str] | None = None) -> int:
    """Print the table, and write it where asked. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="model folders")
    parser.add_argument("--known", type=int, default=8, help="number of cases that calibrate")
    parser.add_argument("--draws", type=int, default=6, help="number of draws of these")
    parser.add_argument("--csv", type=Path, help="table to write")
    parser.add_argument("--figure", type=Path, help="SVG file to write")
    given = parser.parse_args(words)
    rows = [row for model in given.models for row in rows_of(ModelFolder(model), given.known, given.draws)]
    show_table(rows, COLUMNS, given.csv)
    if given.figure:
        draw_over_sizes(rows, given.figure, "model", WAYS, "validation cases")
    return 0


def rows_of(model: ModelFolder, known: int, draws: int) -> list[Row]:
    """Return a row for each size of the anatomy.

    Raises:
        ValueError: there are not more cases than calibrate.
    """
    sizes = ModelPlan.read(model.plan).whole.sizes or WIDEST
    looks = [Looks.read(fold.looks) for fold in model.folds() if fold.looks.is_file()]
    cases = [(one, number) for one in looks for number in range(len(one.cases)) if len(one.cases[number]) > 1]
    if len(cases) <= known:
        raise ValueError(f"{model.path} has looks at {len(cases)} cases, which is not more than {known}")
    trials = list[Trial]()
    for draw in range(draws):
        order = np.random.default_rng(draw).permutation(len(cases))
        calibration = calibrate([_only(*cases[index]) for index in order[:known]], sizes)
        if calibration is not None:
            trials += [trial for index in order[known:] for trial in try_case(calibration, _only(*cases[index]).samples())]
    return [
        _row(model.path.name, size, [one for one in trials if one.size == size]) for size in sorted({one.size for one in trials})
    ]


def _only(looks: Looks, number: int) -> Looks:
    return looks.model_copy(update={"cases": (looks.cases[number],), "present": (looks.present[number],)})


def _row(name: str, size: float, trials: Sequence[Trial]) -> Row:
    return {
        "model": name,
        "size": size,
        "as_it_is": float(np.mean([one.dice for one in trials])),
        "with_search": float(np.mean([one.found for one in trials])),
        "worst_change": min(one.found - one.dice for one in trials),
        "searched": float(np.mean([one.searched for one in trials])),
        "error_of_expected": float(np.mean([abs(one.expected_found - one.found) for one in trials])),
    }


if __name__ == "__main__":
    sys.exit(main())
