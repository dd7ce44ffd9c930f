"""Odd channels and intensities through every command: planned, trained, predicted, evaluated, reported and shared."""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import inference.bundle.cli
import inference.evaluation.cli
import inference.prediction.cli
import inference.report.cli
import planners.cli
import trainers.cli
from configs.plan import Plan
from inference import Predictor
from tests.preprocessing.datasets import save

SHAPE = (24, 24, 24)
TRAINED = ("--network", "baseline", "--preset", "quick", "--workers", "0", "--device", "cpu", "--quiet", "--fold", "0")
SHORT = ("--set", "base_features=8", "learning_rate=0.02", "validation_iterations=2")
pytestmark = [pytest.mark.slow, pytest.mark.thorough]
Scan = Callable[[np.random.Generator, np.ndarray, int], np.ndarray]


def metal(chance: np.random.Generator, labels: np.ndarray, channel: int) -> np.ndarray:
    """Every labelled voxel has the scanner's largest value."""
    del channel
    return np.where(labels, 3071, chance.normal(0, 100, SHAPE)).astype(np.int16)


def phase(chance: np.random.Generator, labels: np.ndarray, channel: int) -> np.ndarray:
    """Two phases of one CT: the second is brighter in the organ."""
    return (chance.normal(40, 10, SHAPE) + (30 + 60 * channel) * labels).astype(np.float32)


def write_raw(folder: Path, channels: int, scan: Scan) -> Path:
    """Six cases of CT and four more to predict, each with a ball of its own."""
    folder.mkdir()
    names = {str(channel): "CT" for channel in range(channels)}
    description = {"channel_names": names, "labels": {"background": 0, "ball": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description))
    for case in range(10):
        chance = np.random.default_rng(case)
        centre = chance.uniform(9, 15, 3)
        squares = [(axis - middle) ** 2 for axis, middle in zip(np.indices(SHAPE), centre, strict=True)]
        labels = (np.sum(squares, axis=0) < chance.uniform(5, 7) ** 2).astype(np.uint8)
        part = "Tr" if case < 6 else "Ts"
        for channel in range(channels):
            save(folder / f"images{part}/c{case}_{channel:04d}.nii.gz", scan(chance, labels, channel))
        save(folder / f"labels{part}/c{case}.nii.gz", labels)
    return folder


@pytest.mark.parametrize(
    ("scan", "channels", "schemes"),
    [pytest.param(metal, 1, ["zscore"], id="metal in CT"), pytest.param(phase, 2, ["ct", "ct"], id="two channels of a name")],
)
def test_through_every_command(tmp_path: Path, run: Callable[..., int], scan: Scan, channels: int, schemes: list[str]) -> None:
    raw, work = write_raw(tmp_path / "Raw", channels, scan), tmp_path / "work"
    words = (
        raw,
        "--work",
        work,
        "--network",
        "baseline",
        "--configurations",
        "3d_fullres",
        "--patch-size",
        16,
        16,
        16,
        "--jobs",
        1,
    )
    assert run(planners.cli.main, *words) == 0
    planned = Plan.read(work / "Raw/plan.json").configuration("3d_fullres").normalisation
    assert [channel.scheme for channel in planned] == schemes
    assert run(trainers.cli.main, "Raw", "--work", work, *TRAINED, "--epochs", 4, "--iterations", 15, *SHORT) == 0
    model, found = work / "Raw/models/3d_fullres_baseline", tmp_path / "found"
    assert run(inference.prediction.cli.main, "-i", raw / "imagesTs", "-o", found, "-m", model, "--device", "cpu") == 0
    assert run(inference.evaluation.cli.main, found, raw / "labelsTs", "-o", tmp_path / "metrics.json") == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["mean_foreground_dice"] > 0.9
    assert run(inference.report.cli.main, model, "--device", "cpu") == 0
    assert run(inference.bundle.cli.main, "export", model, "-o", tmp_path / "model.zip") == 0
    assert run(inference.bundle.cli.main, "import", tmp_path / "model.zip", "-o", tmp_path / "imported") == 0
    images = [nib.load(raw / f"imagesTs/c9_{channel:04d}.nii.gz") for channel in range(channels)]
    in_memory = np.asanyarray(Predictor.load(tmp_path / "imported", device="cpu")(images).dataobj)
    np.testing.assert_array_equal(in_memory, np.asanyarray(nib.load(found / "c9.nii.gz").dataobj))
