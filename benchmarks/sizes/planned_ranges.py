"""The range of sizes that the planner plans for datasets, and its reason.

python -m benchmarks.sizes.planned_ranges DATASET ... [--csv FILE]
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common.tables import show_table
from configs.folders import dataset_name
from planners import plan_and_preprocess
from preprocessing.dataset.raw import open_dataset

COLUMNS = {"dataset": "{}", "cases": "{}", "low": "{:.2f}", "high": "{:.2f}", "reason": "{}"}


def main() -> int:
    """Plan each dataset, print the table, and write it where asked. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", type=Path, nargs="+", metavar="DATASET", help="raw datasets")
    parser.add_argument("--csv", type=Path, help="CSV file of the table")
    given = parser.parse_args()
    rows = [row_of(dataset) for dataset in given.datasets]
    show_table(rows, COLUMNS, given.csv)
    return 0


def row_of(dataset: Path) -> dict[str, Any]:
    """Return the range of a dataset, as factors of the sizes in training."""
    with tempfile.TemporaryDirectory() as work:
        plan = plan_and_preprocess(dataset, work, plan_only=True)
    if plan.sizes is None:
        raise ValueError(f"the plan of {dataset} has no range of sizes")
    reason = next(iter(plan.configurations.values())).reasons["sizes"]
    facts = {"dataset": dataset_name(dataset), "cases": len(open_dataset(dataset).cases)}
    return facts | {"low": plan.sizes.low, "high": plan.sizes.high, "reason": reason}


if __name__ == "__main__":
    sys.exit(main())
