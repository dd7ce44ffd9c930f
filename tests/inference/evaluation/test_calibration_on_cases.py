"""Models without validation cases, such as those of fold `all`, are calibrated on cases that they do not know."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from configs.files import write_json
from inference.evaluation.cli import main as evaluate_main
from inference.sizes.calibration import Calibration
from inference.sizes.measure import Looks
from preprocessing.formats.images import write_labels, write_scalar
from preprocessing.geometry.affine import Geometry
from tests.inference.models import LABELS, write_model

Run = Callable[..., int]


def write_raw(folder: Path, labels: dict[str, object], channel: str = "MR", cases: int = 4) -> Path:
    for index in range(cases):
        random = np.random.default_rng(index)
        truth = np.zeros((16, 18, 20), np.uint8)
        truth[3:9, 4:12, 5:15], truth[9:13, 4:8, 4:9] = 3, 7
        geometry = Geometry.from_spacing(truth.shape, (1.0, 1.0, 1.0))
        write_scalar(folder / f"imagesTr/n{index}_0000.nii.gz", truth / 3 + random.random(truth.shape), geometry)
        write_labels(folder / f"labelsTr/n{index}.nii.gz", truth, geometry)
    write_json(folder / "dataset.json", {"channel_names": {"0": channel}, "labels": labels, "file_ending": ".nii.gz"})
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of fold `all`, as from elsewhere: no work folder around it."""
    return write_model(tmp_path / "model", ("all",))


@pytest.fixture
def run(model: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["se_evaluate", "-m", str(model), "--device", "cpu", "--quiet", *map(str, words)])
        return evaluate_main()

    return call


def test_fold_all_is_calibrated_on_given_cases(tmp_path: Path, model: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("--calibrate") == 2, "it has no validation cases"
    assert run("--calibrate", write_raw(tmp_path / "new", dict(LABELS.labels))) == 0
    looks, made = Looks.read(model / "fold_all/looks.json"), Calibration.read(model / "calibration.json")
    assert len(looks.cases) == made.cases == 4 and set(made.networks) == {"all"}
    with monkeypatch.context() as inside:
        inside.chdir(write_raw(tmp_path / "few", dict(LABELS.labels), cases=3))
        assert run("--calibrate", ".") == 0
    assert not (model / "calibration.json").exists(), "three cases are too few, and the looks at the others are gone"


def test_what_the_model_cannot_be_calibrated_on_is_refused(
    tmp_path: Path, model: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    swapped = write_raw(tmp_path / "swapped", {"background": 0, "grey": 7, "bright": 3}, "CT")
    assert run("--calibrate", swapped) == 2
    told = capsys.readouterr().err
    assert "3 faults" in told and "`grey` is value 7 in one and value 3 in the other" in told and "channels" in told
    new = write_raw(tmp_path / "new", dict(LABELS.labels))
    write_json(model / "fold_all/split.json", {"training": ["n0", "n3", "x"], "validation": []})
    assert run("--calibrate", new) == 2
    assert "fold all trained on cases of the same names: n0, n3" in capsys.readouterr().err
    (model / "fold_all/split.json").unlink()
    (new / "imagesTr/n1_0000.nii.gz").write_bytes(b"x")
    assert run("--calibrate", new) == 2
    assert "case `n1`" in capsys.readouterr().err
    assert not (model / "calibration.json").exists() and not (model / "fold_all/looks.json").exists()
