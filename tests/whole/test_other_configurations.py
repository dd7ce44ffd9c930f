"""The commands with a cascade and with slices, on tiny phantoms: plan, train, predict on the images' own grids."""

import shutil
from pathlib import Path

import pytest

from benchmarks.demo.phantoms import write_phantoms
from configs.files import read_json
from configs.plan import Plan
from tests.whole.test_whole_road import TINY, assert_same_grid, run

pytestmark = pytest.mark.slow

STEP = ["--preset", "quick", "--epochs", "1", "--iterations", "2", *TINY, "mirror=false"]
SMALL_GPU = ["--size", "small", "--gpu-memory", "0.016", "--num-scales", "1"]  # patches small enough for a lower resolution


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two training cases, hence two folds; the second one and the unseen one are stored in another orientation."""
    folder = tmp_path_factory.mktemp("configurations") / "Tiny"
    write_phantoms(folder, training=2, unseen=1, side=44.0)
    return folder


@pytest.fixture(scope="module")
def work(dataset: Path) -> Path:
    """The work folder, planned and preprocessed."""
    folder = dataset.parent / "work"
    run("se_plan_and_preprocess", dataset, "--work", folder, "--jobs", "1", *SMALL_GPU)
    return folder


def train(work: Path, configuration: str, network: str, fold: int = 0, code: int = 0) -> tuple[Path, str]:
    """Train a fold a little. Returns the model's folder, and what was printed."""
    words = ["--configuration", configuration, "--network", network, "--fold", str(fold), *STEP]
    printed = run("se_train", "Tiny", "--work", work, *words, code=code)
    return work / "Tiny" / "models" / f"{configuration}_{network}", printed


def predict(model: Path, dataset: Path, code: int = 0) -> tuple[Path, str]:
    """Segment the unseen case. Returns the output folder, and what was printed."""
    output = dataset.parent / f"predictions_{model.name}"
    return output, run("se_predict", "-i", dataset / "imagesTs", "-o", output, "-m", model, "--fast", code=code)


def assert_predicted(output: Path, dataset: Path) -> None:
    """The unseen case has a segmentation on its own grid."""
    assert_same_grid(output / "phantom_002.nii.gz", dataset / "imagesTs" / "phantom_002_0000.nii.gz")


def test_a_cascade(dataset: Path, work: Path) -> None:
    plan = Plan.read(work / "Tiny" / "plan.json")
    assert set(plan.configurations) == {"2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres"}
    lower, full = (plan.configuration(name).median_shape for name in ("3d_lowres", "3d_fullres"))
    assert all(small < large for small, large in zip(lower, full, strict=True))

    first, _ = train(work, "3d_lowres", "baseline")
    _, told = train(work, "3d_cascade_fullres", "baseline", code=2)
    assert "no fold of" in told and "Train every fold of 3d_lowres_baseline first" in told
    train(work, "3d_lowres", "baseline", fold=1)
    model, _ = train(work, "3d_cascade_fullres", "baseline")
    inputs = [Plan.read(one / "plan.json") for one in (first, model)]
    channels = [next(iter(plan.configurations.values())).networks["baseline"].network.input_channels for plan in inputs]
    assert channels == [1, 3]  # the image; then also organ and lesion, as the first network saw them
    previous = model.parents[1] / "preprocessed" / "3d_cascade_fullres_baseline_previous"
    assert sorted(path.name for path in previous.glob("[!.]*")) == ["phantom_000.b2nd", "phantom_001.b2nd"]
    assert len(read_json(model / "fold_0" / "validation" / "metrics.json")["cases"]) == 1

    output, _ = predict(model, dataset)
    assert_predicted(output, dataset)
    shutil.rmtree(first)
    _, told = predict(model, dataset, code=2)
    assert "3d_lowres_baseline" in told


def test_slices(dataset: Path, work: Path) -> None:
    model, _ = train(work, "2d", "baseline")
    planned = Plan.read(model / "plan.json").network("2d", "baseline")
    assert planned.patch_size[0] == 1 and all(kernel[0] == 1 for kernel in planned.network.kernels)
    assert len(read_json(model / "fold_0" / "validation" / "metrics.json")["cases"]) == 1
    output, _ = predict(model, dataset)
    assert_predicted(output, dataset)
