"""A small model where a training leaves it, with everything that a report reads."""

from pathlib import Path

import numpy as np
import pandas as pd

from configs.dataset import DatasetDescription
from configs.files import write_json
from configs.plan import Plan
from configs.training import TrainingConfig
from inference.evaluation.robustness import RobustnessPoint, RobustnessResult
from inference.evaluation.scores import score_case, summarise
from inference.model import weights_digests
from inference.sizes.calibrate import calibrate
from preprocessing.dataset.raw import open_dataset
from preprocessing.formats.images import write_labels, write_scalar
from preprocessing.geometry.affine import Geometry
from preprocessing.run import preprocess_dataset
from tests.inference.models import LABELS, plan, write_model
from tests.inference.sizes.test_calibration import RANGE, looks

SPACING = (2.0, 1.0, 1.0)
SHAPE = (12, 18, 20)


def truth(shift: int = 0) -> np.ndarray:
    """Two structures; shifted, they agree less with those that are not."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:9, 4 : 12 - shift, 5:15], labels[9:11, 4:8, 4 : 9 - shift] = 3, 7
    return labels


def write_trained(
    root: Path, description: DatasetDescription = LABELS, cases: tuple[str, ...] = ("c0", "c1", "c2", "c3")
) -> Path:
    """Two folds, each validated on its share of the cases; a case's prediction is worse the higher its number."""
    raw, work = root / "toy", root / "work" / "toy"
    geometry = Geometry.from_spacing(SHAPE, SPACING)
    for index, case in enumerate(cases):
        random = np.random.default_rng(index)
        image = (truth() / 3 + 0.1 * random.random(SHAPE)).astype(np.float32)
        write_scalar(raw / f"imagesTr/{case}_0000.nii.gz", image, geometry)
        write_labels(raw / f"labelsTr/{case}.nii.gz", truth(), geometry)
    names = {"channel_names": {"0": description.channels[0]}, "labels": dict(description.labels), "file_ending": ".nii.gz"}
    write_json(raw / "dataset.json", names)
    folder = write_model(work / "models" / "3d_fullres_baseline")
    plan(description, spacing=SPACING, scheme="zscore").write(folder / "plan.json")
    half = len(cases) // 2
    folds = [{"train": list(cases[half:]), "val": list(cases[:half])}, {"train": list(cases[:half]), "val": list(cases[half:])}]
    write_json(work / "splits.json", folds)
    store = work / "preprocessed" / "3d_fullres"
    preprocess_dataset(open_dataset(raw), Plan.read(folder / "plan.json"), "3d_fullres", store)
    TrainingConfig(epochs=3, seed=7).write(folder / "training.json")
    for number, fold in enumerate(folds):
        _write_fold(folder / f"fold_{number}", fold["val"], cases, description, geometry)
    points = [
        RobustnessPoint(scale=scale, ensemble=way, mean_foreground_dice=0.8 - abs(scale - 1), dice={}, cases=4)
        for scale in (0.6, 1.0, 1.6)
        for way in ((1.0,), (0.8, 1.0, 1.25), "search")
    ]
    RobustnessResult(model="toy", points=tuple(points)).write(folder / "scale_robustness.json")
    made = calibrate([looks(4, 1.0)], RANGE)
    if made is not None and len(description.foreground) == len(made.labels):
        made.model_copy(update={"labels": description.foreground, "networks": weights_digests(folder, None, "final")}).write(
            folder / "calibration.json"
        )
    return folder


def _write_fold(
    folder: Path, validated: list[str], cases: tuple[str, ...], description: DatasetDescription, geometry: Geometry
) -> None:
    scores = {}
    for case in validated:
        predicted = truth(cases.index(case))
        write_labels(folder / "validation" / f"{case}.nii.gz", predicted, geometry)
        scores[case] = score_case(predicted, truth(), description, SPACING)
    write_json(folder / "validation" / "metrics.json", summarise(scores).model_dump(mode="json"))
    log = {"epoch": [1, 2, 3], "training_loss": [1.0, 0.5, 0.4], "validation_loss": [0.9, np.nan, 0.6]}
    log |= {"ema_pseudo_dice": [0.2, 0.4, 0.5], "volume_dice": [np.nan] * 3, "skipped_steps": [0, 1, 0]}
    log |= {"seconds": [10.0, 20.0, 30.0], "data_wait_share": [0.1, 0.2, 0.3], "peak_memory": [1e9, 2.5e9, 2e9]}
    pd.DataFrame(log).to_csv(folder / "log.csv", index=False)
