"""Use models on grids of other spacings than their own, without training: kernels of `se` are as wide as before in mm, others in voxels.

    python -m benchmarks.evidence.other_spacing MODEL ... --csv FILE [--spacings 1 1.25 1.5 2] [--cases 28]

Each MODEL is a model in WORK/DATASET/models with a trained fold 0. Only the spacing of its plan and of its network change. The validation
cases of the fold are segmented without reflections and without a search of the size; Dice is on the images' own grid.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.common.tables import show_table
from configs.folders import ModelFolder
from configs.plan import ModelPlan
from inference.evaluation.robustness import load_validation_case, stored_values, validation_cases
from inference.evaluation.scores import score_case, summarise
from inference.model import Model, load_model, make_network
from inference.options import PredictionOptions
from inference.predictor import Predictor

COLUMNS = {"model": "{}", "spacing": "{:.2f}", "cases": "{}", "mean_dice": "{:.3f}", "change": "{:+.3f}"}


def main() -> int:
    """Measure, print and write the table. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help="model folders")
    parser.add_argument("--spacings", type=float, nargs="+", default=[1.0, 1.25, 1.5, 2.0], help="mm, the model's own first")
    parser.add_argument("--cases", type=int, default=28, help="largest number of cases; default: %(default)s")
    parser.add_argument("--csv", type=Path, help="CSV file of the table")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for folder in given.models:
        own: float | None = None
        for spacing in given.spacings:
            cases, dice = dice_at(folder, spacing, given.cases)
            own = dice if own is None else own
            rows.append({"model": folder.name, "spacing": spacing, "cases": cases, "mean_dice": dice, "change": dice - own})
            print(rows[-1], file=sys.stderr, flush=True)
    show_table(rows, COLUMNS, given.csv)
    return 0


def dice_at(folder: Path, spacing: float, most: int) -> tuple[int, float]:
    """Return the number of validation cases and their mean Dice at a spacing in mm."""
    model = moved(load_model(folder, [0]), spacing)
    predictor = Predictor(model, "cpu", PredictionOptions(mirror=False, search="never"))
    plan, scores = ModelPlan.read(ModelFolder(folder).plan), {}
    for name in validation_cases(folder, "0")[:most]:
        case = load_validation_case(folder, plan, "0", name)
        labels = predictor.segment(case.image, case.geometry).labels
        scores[name] = score_case(labels, stored_values(case.indices, plan.dataset), plan.dataset, case.geometry.spacing)
    return len(scores), summarise(scores).mean_foreground_dice or 0.0


def moved(model: Model, spacing: float) -> Model:
    """Return the model with the same weights on a grid of another spacing."""
    where = (spacing, spacing, spacing)
    planned = model.plan.network
    network = planned.model_copy(update={"network": planned.network.model_copy(update={"spacing": where})})
    plan = model.plan.whole.only(model.plan.configuration_name, model.plan.network_name, network)
    configuration = plan.configuration.model_copy(update={"spacing": where})
    whole = plan.whole.model_copy(update={"configurations": {plan.configuration_name: configuration}})
    networks = {}
    for fold, trained in model.networks.items():
        networks[fold] = make_network(network)
        networks[fold].load_state_dict(trained.state_dict())
    return Model(ModelPlan(whole), networks)


if __name__ == "__main__":
    sys.exit(main())
