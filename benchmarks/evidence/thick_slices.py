"""Dice on thick oblique slices, with images turned to RAS and with images turned so that slices stay slices.

    python -m benchmarks.evidence.thick_slices WORK [--seeds 0 1 2] [--csv FILE]

The images are made here: a ring around a pool in ten thick slices, as in cardiac short-axis series. The axis across slices is nearest to
superior in half of the cases and to the right in the others. The baseline trains on eight cases and segments eight others; the number
of steps was fixed before the first training. Run it again to go on where it stopped.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common.tables import show_table
from configs.files import read_json, write_json
from configs.folders import DatasetFolder
from configs.training import load_training_config
from inference.evaluation.metrics import confusion_matrix, overlap
from inference.options import PredictionOptions
from inference.predictor import Predictor
from planners import plan_and_preprocess
from planners.options import PlanningOptions
from preprocessing.formats.images import read_labels
from trainers import train

Row = dict[str, Any]

STEPS, EPOCHS, FEATURES, BATCH = 400, 4, 8, 2
CASES = 8
COLUMNS = {"orientation": "{}", "seed": "{:d}", "ring": "{:.3f}", "pool": "{:.3f}", "mean_dice": "{:.3f}"}
_NEAR_SUPERIOR = ((-0.9, -0.28, 0.34), (0.0, -0.77, -0.64), (0.44, -0.57, 0.69))
_NEAR_RIGHT = ((-0.57, 0.42, 0.70), (-0.80, -0.07, -0.60), (-0.20, -0.90, 0.38))


def main(words: Sequence[str] | None = None) -> int:
    """Run what is missing, print the table, and write it where asked. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for datasets, models and results")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="seeds of the trainings")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps")
    parser.add_argument("--csv", type=Path, help="table to write")
    given = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    orientations: tuple[Literal["canonical"] | None, ...] = (None, "canonical")
    rows = [measured(given.work, orientation, seed, given.steps) for seed in given.seeds for orientation in orientations]
    show_table(rows, COLUMNS, given.csv)
    return 0


def make_stacks(folder: Path, first_seed: int = 0, cases: int = CASES, contrast: float = 0.5, size: int = 96) -> Path:
    """Write a dataset in nnU-Net's raw layout with images of `size` x `size` x 10 voxels."""
    described = {"channel_names": {"0": "cine-MRI"}, "labels": {"background": 0, "ring": 1, "pool": 2}, "numTraining": cases}
    write_json(folder / "dataset.json", described | {"file_ending": ".nii.gz"})
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(exist_ok=True, parents=True)
    for seed in range(first_seed, first_seed + cases):
        image, labels, affine = _stack(seed, size, contrast)
        nib.save(nib.Nifti1Image(image, affine), folder / f"imagesTr/stack_{seed:03d}_0000.nii.gz")
        nib.save(nib.Nifti1Image(labels, affine), folder / f"labelsTr/stack_{seed:03d}.nii.gz")
    return folder


def _stack(seed: int, size: int, contrast: float) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float64]]:
    """Return image and labels (x, y, z) and the affine of one case."""
    random = np.random.default_rng(seed)
    x, y, z = np.indices((size, size, 10)).astype(np.float64)
    centre = size / 2 + random.uniform(-size / 16, size / 16, 2)

    def ellipsoid(width: float, height: float, depth: float) -> NDArray[np.bool_]:
        across = ((x - centre[0]) / (width * size)) ** 2 + ((y - centre[1]) / (height * size)) ** 2
        return across + ((z - 5) / depth) ** 2 <= 1

    labels = ellipsoid(0.23, 0.21, 4).astype(np.uint8) + ellipsoid(0.15, 0.13, 3.5).astype(np.uint8)
    image = random.normal(100, 12, labels.shape) + contrast * (60.0 * (labels == 2) - 50.0 * (labels == 1))
    towards, _, away = np.linalg.svd(np.array(_NEAR_SUPERIOR if seed % 2 else _NEAR_RIGHT))
    affine = np.eye(4)
    affine[:3, :3] = (towards @ away) * (1.3, 1.3, 9.0 if seed % 4 else 6.0)
    return image.astype(np.float32), labels, affine


def measured(work: Path, orientation: Literal["canonical"] | None, seed: int, steps: int) -> Row:
    """Return the mean Dice of a training on the unseen cases; train first where that is not done."""
    name = orientation or "slices"
    file = work / f"{name}_{seed}_{steps}.json"
    if not file.is_file():
        torch.set_num_threads(1)
        folder = _planned(work, name, orientation)
        settings = {"epochs": EPOCHS, "iterations": steps // EPOCHS, "batch_size": BATCH, "base_features": FEATURES, "seed": seed}
        config = load_training_config("quick", settings | {"validate_every": EPOCHS, "validation_iterations": 1, "workers": 0})
        tag = f"{seed}_{steps}"
        train(folder.path.name, folder.path.parent, "baseline", "3d_fullres", "all", config, tag=tag, resume=True, device="cpu")
        dice = _dice(work, folder.model("3d_fullres", "baseline", tag).path)
        write_json(file, {"orientation": name, "seed": seed, "steps": steps} | dice)
    return dict(read_json(file))


def _planned(work: Path, name: str, orientation: Literal["canonical"] | None) -> DatasetFolder:
    folder = DatasetFolder(work / name / "Stacks")
    if not folder.plan.is_file():
        raw = make_stacks(work / name / "raw" / "Stacks")
        options = PlanningOptions(networks=("baseline",), configurations=("3d_fullres",), orientation=orientation)
        plan_and_preprocess(raw, work / name, options, jobs=1)
    return folder


def _dice(work: Path, model: Path) -> dict[str, float]:
    """Return the mean Dice of each label over unseen cases."""
    unseen = work / "unseen"
    if not (unseen / "dataset.json").is_file():
        make_stacks(unseen, first_seed=100)
    predictor = Predictor.load(model, "cpu", options=PredictionOptions(mirror=False))
    found: dict[str, list[float]] = {"ring": [], "pool": []}
    for image in sorted((unseen / "imagesTr").iterdir()):
        predicted = np.asarray(predictor(nib.load(image)).dataobj).transpose()
        truth, _ = read_labels(unseen / "labelsTr" / image.name.replace("_0000", ""))
        confusion = confusion_matrix(predicted.astype(np.int64), truth.astype(np.int64), 3)
        for value, name in enumerate(found, start=1):
            found[name].append(overlap(confusion, [value]).dice)
    dice = {name: float(np.mean(values)) for name, values in found.items()}
    return dice | {"mean_dice": float(np.mean(list(dice.values())))}


if __name__ == "__main__":
    sys.exit(main())
