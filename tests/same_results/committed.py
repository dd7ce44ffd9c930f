"""The small part of a recording that is kept in the repository, and holds on other machines within a tolerance.

`python -m tests.same_results.committed` writes it anew, after a change of results that is intended.
"""

import json
import logging
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

from configs.network import NetworkConfig
from planners import plan_and_preprocess
from tests.same_results.commands import ROOT, Commands
from tests.same_results.digests import Json, read_table, read_values, stored_array, stored_digest
from tests.same_results.networks import (
    SMALL_NETWORKS,
    build,
    layout_of,
    loss_and_gradients,
    norm_of,
    one_thread,
    record_outputs,
)

FILE = ROOT / "tests" / "same_results" / "committed.json"
DATA = ROOT.parent / "shared" / "data"
DATASETS = (
    "Dataset004_Hippocampus",
    "Dataset040_MouseFVB",
    "Dataset050_SpinalCordMix",
    "Dataset109_SpleenCrop",
    "Dataset291_TotalSegExampleCT",
)
_CASES = ("delta", "alpha", "charlie", "bravo", "echo", "golf", "foxtrot")
_DESCRIPTION = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "ball": 1, "core": 2}, "file_ending": ".nii.gz"}


def record_network(config: NetworkConfig) -> dict[str, Json]:
    """Names and shapes of the weights, some numbers of the output, the loss and the size of the gradient."""
    network, image = build(config, (8, 16, 16))
    numbers = record_outputs(network, image)["numbers"]
    loss, gradients = loss_and_gradients(network, image)
    return {"layout": layout_of(network), "numbers": numbers, "loss": loss, "gradient_norm": norm_of(gradients)}


def record_plan(dataset: Path, work: Path) -> Json:
    """The plan of a dataset with the default options."""
    plan_and_preprocess(dataset, work, jobs=1, plan_only=True)
    return read_values(work / dataset.name / "plan.json")


def record_road(work: Path) -> dict[str, Json]:
    """Plan, labels, brightness and folds of a synthetic dataset, and the columns and settings of a short training."""
    commands, dataset, planned = Commands(work), _write_balls(work / "Balls"), work / "planned" / "Balls"
    options = ("--configurations", "3d_fullres", "--patch-size", "16", "16", "16")
    commands.run("se_plan_and_preprocess", dataset, "--work", planned.parent, "--jobs", "1", *options)
    settings = ("--epochs", "1", "--iterations", "1", "--batch-size", "1", "--workers", "0", "--network", "baseline")
    tiny = ("--set", "base_features=2", "validation_iterations=1", "mirror=false")
    commands.run("se_train", dataset, "--work", planned.parent, *settings, *tiny)
    model, store = planned / "models" / "3d_fullres_baseline", planned / "preprocessed" / "3d_fullres"
    files = sorted(str(path.relative_to(planned)) for path in planned.rglob("*") if path.suffix not in {".log", ".html", ".png"})
    return {
        "plan": read_values(planned / "plan.json"),
        "splits": read_values(planned / "splits.json"),
        "labels": {case: stored_digest(store / f"{case}_labels.b2nd") for case in _CASES},
        "images": {case: _moments(store / f"{case}.b2nd") for case in _CASES},
        "trained plan": read_values(model / "plan.json"),
        "settings": read_values(model / "training.json"),
        "columns": list(read_table(model / "fold_0" / "log.csv", frozenset())[0]),
        "files": [name for name in files if (planned / name).is_file()],
    }


def main() -> None:
    """Write the file anew."""
    logging.basicConfig(level=logging.WARNING)
    recorded: dict[str, dict[str, Json]] = {"networks": {}, "plans": {}}
    with tempfile.TemporaryDirectory() as folder, one_thread():
        for name, description in SMALL_NETWORKS.items():
            recorded["networks"][name] = record_network(NetworkConfig.model_validate(description))
        for name in DATASETS:
            recorded["plans"][name] = record_plan(DATA / name, Path(folder) / "plans")
        recorded["road"] = record_road(Path(folder))
    FILE.write_text(_lines(recorded), encoding="utf-8")


def _write_balls(folder: Path) -> Path:
    """Seven images of a bright core in a ball on noise, with thick slices; whole numbers alone, the same on every machine."""
    grid = np.indices((24, 22, 20))
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for number, case in enumerate(_CASES):
        distance = ((grid - np.array([12, 11, 10])[:, None, None, None]) ** 2).sum(0)
        labels = ((distance < 50 + 4 * number).astype(np.uint8) + (distance < 12)).astype(np.uint8)
        noise = np.random.default_rng(number).integers(0, 20, labels.shape)
        affine = np.diag([1.0, 1.0, 1.5, 1.0])
        nib.save(nib.Nifti1Image((noise + 40 * labels).astype(np.int16), affine), folder / "imagesTr" / f"{case}_0000.nii.gz")
        nib.save(nib.Nifti1Image(labels, affine), folder / "labelsTr" / f"{case}.nii.gz")
    (folder / "dataset.json").write_text(json.dumps(_DESCRIPTION | {"numTraining": len(_CASES)}), encoding="utf-8")
    return folder


def _moments(path: Path) -> list[float]:
    values = stored_array(path).astype(np.float64)
    return [*map(float, values.shape), float(values.mean()), float(values.std()), float(values.max())]


def _lines(recorded: dict[str, dict[str, Json]]) -> str:
    """JSON with one line for each entry of the second level, so that a change is seen where it is."""
    parts = []
    for name, part in recorded.items():
        entries = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in part.items())
        parts.append(f" {json.dumps(name)}: {{\n{entries}\n }}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    main()
