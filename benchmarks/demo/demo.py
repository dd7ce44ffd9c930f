"""Run all steps on phantoms: generate, plan, train, segment unseen cases, measure and draw. `make demo` runs it.

The demonstration writes into `demo_output`, which it empties first. All steps are calls of the public Python interface.
"""

import argparse
import logging
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from benchmarks.demo.phantoms import LABELS, write_phantoms
from configs.cli import Bar
from configs.files import write_json
from inference import EvaluationResult, PredictionOptions, Predictor, evaluate, predict_cases
from inference.evaluation.tables import score_table
from inference.outputs.preview import montage
from inference.prediction.predict_files import plan_outputs
from planners.options import PlanningOptions
from preprocessing.dataset.raw import find_cases, open_dataset
from preprocessing.dataset.splits import NNUNET_SPLITS
from preprocessing.formats.images import read_image, read_labels
from preprocessing.geometry.orientation import find_turn
from trainers import RunOptions, run_dataset
from trainers.pipeline.run import RunResult

OUTPUT = Path("demo_output")
DATASET = OUTPUT / "Phantoms"
WORK = OUTPUT / "se_work"
PREDICTIONS = OUTPUT / "predictions"
PLANNING = PlanningOptions(
    networks=("se",), configurations=("3d_fullres",), spacing=(1.5, 1.5, 1.5)
)  # coarser than the images: many steps in little time
RUN = RunOptions(
    preset="quick", settings={"epochs": 12, "iterations": 40, "validation_iterations": 2}, networks=("se",), folds=(0,)
)
SEED = 1  # phantoms were made learnable, and settings chosen, on those of seed 0
HELD_OUT = 2  # training cases that validate; a fifth, as usual, would take long without a GPU
PREDICTION = PredictionOptions(scales=(1.0,))  # the phantoms' sizes are those of training


def main() -> int:
    """Run all steps, and print the scores and the place of the pictures. Returns the exit code."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    start = time.monotonic()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    with step("Make 24 phantoms for training and 8 unseen ones"):
        write_phantoms(DATASET, seed=SEED)
        write_splits()
    with step("Plan, preprocess, train, select, report and bundle, as se_run does"):
        run = run_dataset(DATASET, WORK, RUN, PLANNING, Bar())
    with step("Segment the unseen phantoms"):
        segment(run)
    with step("Compare with the truth and draw"):
        result = evaluate(PREDICTIONS, DATASET / "labelsTs")
        result.write(PREDICTIONS / "metrics.json")
        draw(result)
    Console().print(score_table(result))
    print(f"Mean foreground Dice on unseen phantoms: {result.mean_foreground_dice:.3f}")
    print(f"Pictures: {OUTPUT / 'best.png'}, {OUTPUT / 'worst.png'} (truth above, prediction below)")
    print(f"Plan, training curves, scores and a bundle to share: {run.page}")
    print(f"All done in {time.monotonic() - start:.0f} s.")
    return 0


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print the name of a step, and its duration."""
    print(f"{title} ...", flush=True)
    start = time.monotonic()
    yield
    print(f"    {time.monotonic() - start:.0f} s", flush=True)


def write_splits() -> None:
    """Write a fold with few validation cases into the dataset's folder, as nnU-Net's users do."""
    cases = sorted(open_dataset(DATASET).cases)
    write_json(DATASET / NNUNET_SPLITS, [{"train": cases[:-HELD_OUT], "val": cases[-HELD_OUT:]}])


def segment(run: RunResult) -> None:
    """Segment `imagesTs` with the model of a run."""
    predictor = Predictor.load(run.models[0], options=PREDICTION)
    cases = find_cases(DATASET / "imagesTs", predictor.description)
    failures = predict_cases(predictor, cases, plan_outputs(cases, PREDICTIONS), progress=Bar())
    for error in failures.values():
        raise error


def draw(result: EvaluationResult) -> None:
    """Draw the best and the worst case: outlines of truth and prediction."""
    ranked = sorted(result.cases, key=lambda case: sum(scores.dice or 0 for scores in result.cases[case].values()))
    for name, case in (("worst", ranked[0]), ("best", ranked[-1])):
        image, geometry = read_image([DATASET / "imagesTs" / f"{case}_0000.nii.gz"])
        turn = find_turn(geometry, "canonical")
        truth, predicted = (
            turn.apply(read_labels(folder / f"{case}.nii.gz")[0]) for folder in (DATASET / "labelsTs", PREDICTIONS)
        )
        montage(
            turn.apply(image[0]),
            [truth, predicted],
            OUTPUT / f"{name}.png",
            [f"{case}, truth", "prediction"],
            spacing=turn.apply_geometry(geometry).spacing,
            names={value: label for label, value in LABELS.items()},
        )


if __name__ == "__main__":
    sys.exit(main())
