"""The commands, one after the other, on tiny phantoms: from image files to measured segmentations on the images' own grids."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pytest

from benchmarks.demo.phantoms import LABELS, write_phantoms
from configs.files import read_json
from configs.plan import NETWORKS
from tests.faults.server import run_command

pytestmark = pytest.mark.slow

COMMANDS = Path(sys.executable).parent
TINY = ["--workers", "0", "--batch-size", "1", "--set", "base_features=2", "validation_iterations=1"]
SHORT = ["--preset", "quick", "--epochs", "2", "--iterations", "2", *TINY]


def start(name: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Start one of the commands on one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [COMMANDS / name, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def run(name: str, *arguments: str | Path, code: int = 0) -> str:
    """Run one of the commands to its end, which must have the given exit code. Returns what it printed."""
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        ended_with = run_command([name, *map(str, arguments)], log, 600)
        printed = log.read_text()
    assert ended_with == code, printed
    assert "Traceback" not in printed
    return printed


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six training cases, two unseen ones: the first stored in another orientation, the second with thick slices."""
    folder = tmp_path_factory.mktemp("road") / "Tiny"
    write_phantoms(folder, training=6, unseen=2, side=24.0)
    return folder


@pytest.fixture(scope="module")
def work(dataset: Path) -> Path:
    """The work folder, planned and preprocessed."""
    folder = dataset.parent / "work"
    run("se_plan_and_preprocess", dataset, "--work", folder, "--patch-size", "16", "16", "16", "--num-scales", "2")
    return folder


@pytest.fixture(scope="module", params=NETWORKS)
def model(request: pytest.FixtureRequest, dataset: Path, work: Path) -> Path:
    """A model that was trained a little."""
    run("se_train", dataset, "--work", work, "--network", request.param, *SHORT)
    return work / "Tiny" / "models" / f"3d_fullres_{request.param}"


@pytest.fixture(scope="module")
def predictions(model: Path, dataset: Path) -> Path:
    """Segmentations of the unseen cases."""
    folder = dataset.parent / f"predictions_{model.name}"
    run("se_predict", "-i", dataset / "imagesTs", "-o", folder, "-m", model, "--fast")
    return folder


def test_model_folder_is_whole(model: Path) -> None:
    expected = {"weights_final.safetensors", "weights_best.safetensors", "checkpoint_latest.pt", "log.csv", "progress.png"}
    assert expected <= {path.name for path in (model / "fold_0").iterdir()}
    assert {"plan.json", "training.json"} <= {path.name for path in model.iterdir()}


def test_fold_is_validated_on_whole_volumes(model: Path, dataset: Path) -> None:
    validation = model / "fold_0" / "validation"
    cases = [path.name for path in validation.glob("*.nii.gz")]
    assert cases
    for case in cases:
        assert_same_grid(validation / case, dataset / "labelsTr" / case)
    assert set(read_json(validation / "metrics.json")["means"]) == {"organ", "lesion"}


def test_segmentations_lie_on_the_images_grid(predictions: Path, dataset: Path) -> None:
    truth = sorted((dataset / "labelsTs").iterdir())
    assert [path.name for path in sorted(predictions.glob("*.nii.gz"))] == [path.name for path in truth]
    for path in truth:
        image = dataset / "imagesTs" / path.name.replace(".nii.gz", "_0000.nii.gz")
        assert_same_grid(predictions / path.name, image)


def assert_same_grid(segmentation: Path, image: Path) -> None:
    """The same shape, affine and codes, to the bit, and an integer type with known values."""
    written, given = nib.load(segmentation), nib.load(image)
    assert written.shape == given.shape
    assert written.affine.tobytes() == given.affine.tobytes()
    assert nib.aff2axcodes(written.affine) == nib.aff2axcodes(given.affine)
    for field in ("sform_code", "qform_code", "pixdim"):
        assert written.header[field].tobytes() == given.header[field].tobytes()
    assert np.issubdtype(written.get_data_dtype(), np.integer)
    assert set(np.unique(written.dataobj)) <= set(LABELS.values())


def test_evaluation_gives_every_case_and_label(predictions: Path, dataset: Path, tmp_path: Path) -> None:
    printed = run("se_evaluate", predictions, dataset / "labelsTs", "-o", tmp_path / "metrics.json")
    result = read_json(tmp_path / "metrics.json")
    assert "Dice" in printed
    assert set(result["cases"]) == {"phantom_006", "phantom_007"}
    assert all(set(scores) == {"organ", "lesion"} for scores in result["cases"].values())
    assert 0 <= result["mean_foreground_dice"] <= 1


def test_truth_against_itself_scores_one(dataset: Path, tmp_path: Path) -> None:
    run("se_evaluate", dataset / "labelsTs", dataset / "labelsTs", "-o", tmp_path / "metrics.json")
    assert read_json(tmp_path / "metrics.json")["mean_foreground_dice"] == 1


def test_finished_fold_is_not_overwritten(model: Path, dataset: Path, work: Path) -> None:
    network = model.name.removeprefix("3d_fullres_")
    before = (model / "fold_0" / "weights_final.safetensors").read_bytes()
    printed = run("se_train", dataset, "--work", work, "--network", network, *SHORT, code=2)
    assert "--restart" in printed
    assert (model / "fold_0" / "weights_final.safetensors").read_bytes() == before


def test_stopped_training_resumes_where_it_was(dataset: Path, work: Path) -> None:
    options = [dataset, "--work", work, "--network", "se", "--tag", "stopped", "--preset", "quick", "--iterations", "4", *TINY]
    fold = work / "Tiny" / "models" / "3d_fullres_se_stopped" / "fold_0"
    process = start("se_train", *options, "--epochs", "500")
    try:
        wait_for(lambda: len(read_epochs(fold)) >= 2, process)
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode not in (0, -signal.SIGTERM), printed
    assert "--resume" in printed
    assert (fold / "checkpoint_latest.pt").is_file()
    assert not (fold / "weights_final.safetensors").exists()
    done = len(read_epochs(fold))

    run("se_train", *options, "--epochs", str(done + 2), "--resume")
    epochs = read_epochs(fold)
    assert epochs == list(range(epochs[0], epochs[0] + done + 2))
    assert (fold / "weights_final.safetensors").is_file()


def read_epochs(fold: Path) -> list[int]:
    """The epochs that the log tells of."""
    if not (fold / "log.csv").exists():
        return []
    with (fold / "log.csv").open() as lines:
        return [int(row["epoch"]) for row in csv.DictReader(lines)]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    """Wait until a condition holds while a process runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.1)


def test_wrong_input_ends_with_two_and_all_faults(dataset: Path, tmp_path: Path) -> None:
    printed = run("se_plan_and_preprocess", tmp_path / "nowhere", "--work", tmp_path, code=2)
    assert "nowhere" in printed
    printed = run("se_predict", "-i", tmp_path / "images", "-o", tmp_path / "out", "-m", tmp_path / "model", code=2)
    assert "2 faults" in printed
    assert not (tmp_path / "out").exists()
    run("se_evaluate", tmp_path / "images", dataset / "labelsTs", code=2)
    run("se_train", dataset, "--work", tmp_path, "--network", "se", "--preset", "nothing", code=2)
