"""Train a network from another dataset's weights and from scratch, alike in everything else.

    python -m benchmarks.evidence.fine_tuning DATASET WORK --source MODEL/fold_0 --train CASE ... --csv FILE [--network se] [--seeds 0 1 2]

The cases named by --train train, all others are validated as whole volumes. Both have preset `finetune`. Finished trainings in WORK are
kept.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.common.tables import show_table
from benchmarks.common.trainings import SPREAD, run, spread, trained
from configs.files import write_json
from configs.folders import DatasetFolder, dataset_name
from preprocessing.dataset.raw import open_dataset

COLUMNS = {"network": "{}", "start": "{}"} | SPREAD
STARTS = ("scratch", "fine-tuned")


def main() -> int:
    """Train what is missing, print and write the table. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="raw dataset")
    parser.add_argument("work", type=Path, help="plans and models are kept here")
    parser.add_argument("--source", type=Path, required=True, help="fold of the model to start from")
    parser.add_argument("--network", default="se", help="network of the plan, of the kind of the source")
    parser.add_argument("--train", nargs="+", required=True, metavar="CASE", help="cases to train on")
    parser.add_argument("--spacing", nargs=3, metavar=("Z", "Y", "X"), help="planned spacing in mm")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--csv", type=Path, help="CSV file of the table")
    given = parser.parse_args()
    planned = prepare(given)
    found: dict[str, list[float]] = {}
    for seed in given.seeds:
        for start in STARTS:
            found.setdefault(start, []).append(train(planned, given, start, seed))
            print(f"{start}, seed {seed}: {found[start][-1]:.4f}", file=sys.stderr, flush=True)
    rows = [{"network": given.network, "start": start} | spread(given.steps, dice) for start, dice in found.items()]
    show_table(rows, COLUMNS, given.csv)
    return 0


def prepare(given: argparse.Namespace) -> DatasetFolder:
    """Plan and preprocess the dataset with one fold, and return its folder."""
    planned = DatasetFolder(given.work / dataset_name(given.dataset))
    if not planned.splits.is_file():
        cases = sorted(open_dataset(given.dataset).cases)
        splits = given.work / "splits.json"
        write_json(splits, [{"train": given.train, "val": [case for case in cases if case not in given.train]}])
        words = [given.dataset, "--work", given.work, "--configurations", "3d_fullres", "--splits", splits, "--jobs", "1"]
        run("se_plan_and_preprocess", "--quiet", *words, *(["--spacing", *given.spacing] if given.spacing else []))
    return planned


def train(planned: DatasetFolder, given: argparse.Namespace, start: str, seed: int) -> float:
    """Train unless that is done, and return the mean Dice of the validation cases."""
    more = ["--init-weights", given.source] if start == "fine-tuned" else []
    more += ["--set", "base_features=8", "batch_size=2", "validation_iterations=10"]
    found = trained(planned, given.network, f"{start}_{given.steps}_{seed}", "finetune", given.steps, seed, *more)
    return float(found.mean_foreground_dice or 0.0)


if __name__ == "__main__":
    sys.exit(main())
