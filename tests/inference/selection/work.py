"""A dataset under WORK with models that were cross-validated, as far as files tell."""

import json

import numpy as np
import torch

from inference.evaluation.scores import score_case, summarise
from preprocessing.dataset.raw import open_dataset
from preprocessing.formats.images import read_image, read_labels, write_labels
from preprocessing.run import preprocess_dataset
from se_unet.builder import build_network
from se_unet.weights import save_weights
from tests.inference.models import plan
from tests.preprocessing.datasets import SHAPE, make_dataset

CASES = [f"case_{index}" for index in range(4)]
FOLDS = {"0": CASES[:2], "1": CASES[2:]}


def make_work(folder):
    """Raw data, splits and prepared cases. Returns the dataset's folder under WORK."""
    raw = open_dataset(make_dataset(folder / "raw", cases=len(CASES)))
    work = folder / "work/raw"
    planned = plan(raw.description, scheme="zscore")
    preprocess_dataset(raw, planned, "3d_fullres", work / "preprocessed/3d_fullres")
    splits = [{"train": [case for case in CASES if case not in part], "val": part} for part in FOLDS.values()]
    (work / "splits.json").write_text(json.dumps(splits))
    return work


def reference(work, case):
    """Label values (Z, Y, X) of a case."""
    return read_labels(work.parents[1] / f"raw/labelsTr/{case}.nii.gz")[0]


def add_model(work, name, spoil, folds=FOLDS, seed=0, checkpoints=("final",)):
    """A model with random weights, whose validation gave `spoil(reference, case)`. Returns its folder."""
    model = work / "models" / name
    description = open_dataset(work.parents[1] / "raw").description
    planned = plan(description, scheme="zscore")
    planned.write(model / "plan.json")
    network = planned.network("3d_fullres", "baseline").network
    for position, (fold, cases) in enumerate(folds.items()):
        for checkpoint in checkpoints:
            torch.manual_seed(100 * seed + position)
            (model / f"fold_{fold}").mkdir(exist_ok=True)
            save_weights(build_network(network), model / f"fold_{fold}/weights_{checkpoint}.safetensors")
        scores = {}
        for case in cases:
            image, geometry = read_image((work.parents[1] / f"raw/imagesTr/{case}_0000.nii.gz",))
            true = reference(work, case)
            predicted = spoil(true.copy(), case)
            write_labels(model / f"fold_{fold}/validation/{case}.nii.gz", predicted, geometry)
            scores[case] = score_case(predicted, true, description, geometry.spacing)
            assert image.shape[1:] == predicted.shape == SHAPE[::-1]
        summarise(scores).write(model / f"fold_{fold}/validation/metrics.json")
    return model


def right(labels, case):
    """No error."""
    return labels


def without_slices(number):
    """Leaves out the lowest labelled slices."""

    def spoil(labels, case):
        first = int(np.flatnonzero(labels.any(axis=(1, 2)))[0])
        labels[: first + number] = 0
        return labels

    return spoil


def with_specks(labels, case):
    """Two false voxels of the label `outer` in a corner."""
    labels[0, 0, :2] = 2
    return labels
