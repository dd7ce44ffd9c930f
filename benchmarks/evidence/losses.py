"""Train with settings of the loss that are meant for small and thin structures, and with none of them, alike in everything else.

    python -m benchmarks.evidence.losses PLANNED VARIANTS.json --csv FILE [--network se] [--seeds 0] [--steps 200]

PLANNED is a planned and preprocessed dataset in a work folder, whose fold 0 trains and is validated on whole volumes. VARIANTS.json maps
the name of each variant to its settings, such as `{"none": {}, "top_k": {"top_k": 0.1}}`. Preset `quick`; finished trainings are kept.
The table has the mean Dice of all labels, and of the third of them that is smallest.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import fmean

from benchmarks.common.tables import show_table
from benchmarks.common.trainings import SPREAD, spread, trained
from configs.files import read_json
from configs.folders import DatasetFolder
from inference.evaluation.scores import EvaluationResult

COLUMNS = {"network": "{}", "loss": "{}"} | SPREAD | {"smallest_labels": "{}", "their_dice": "{:.3f}"}


def main() -> int:
    """Train what is missing, print and write the table. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("planned", type=Path, help="folder of the planned dataset")
    parser.add_argument("variants", type=Path, help="JSON file of settings by the name of the variant")
    parser.add_argument("--network", default="se", help="network of the plan")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--csv", type=Path, help="CSV file of the table")
    given = parser.parse_args()
    rows = []
    for name, settings in read_json(given.variants).items():
        found = [train(DatasetFolder(given.planned), given, name, settings, seed) for seed in given.seeds]
        smallest = smallest_labels(found[0])
        row = {"network": given.network, "loss": name} | spread(given.steps, [one.mean_foreground_dice or 0.0 for one in found])
        rows.append(row | {"smallest_labels": len(smallest), "their_dice": fmean(dice_of(one, smallest) for one in found)})
    show_table(rows, COLUMNS, given.csv)
    return 0


def train(
    planned: DatasetFolder, given: argparse.Namespace, name: str, settings: dict[str, object], seed: int
) -> EvaluationResult:
    """Train unless that is done, and return the scores of the validation cases."""
    changes = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    tag, more = f"loss_{name}_{given.steps}_{seed}", ["--set", *changes] if changes else []
    found = trained(planned, given.network, tag, "quick", given.steps, seed, *more)
    print(f"{name}, seed {seed}: {found.mean_foreground_dice:.4f}", file=sys.stderr, flush=True)
    return found


def smallest_labels(found: EvaluationResult) -> list[str]:
    """Return the third of the labels whose mean volume is smallest in the references, at least one."""
    labels = list(next(iter(found.cases.values())))
    volumes = {label: fmean(case[label].reference_volume for case in found.cases.values()) for label in labels}
    return sorted(labels, key=volumes.__getitem__)[: max(1, len(labels) // 3)]


def dice_of(found: EvaluationResult, labels: list[str]) -> float:
    """Return the mean Dice of some labels."""
    return fmean(found.means[label]["dice"].value or 0.0 for label in labels)


if __name__ == "__main__":
    sys.exit(main())
