"""se_predict and se_evaluate as a user runs them, in this process."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from inference.cli import evaluate_main, predict_main
from inference.record import PredictionRecord
from tests.inference.models import LABELS, write_model

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(main: Callable[[], int], *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", [main.__name__, *map(str, arguments)])
        return main()

    return call


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(3):
        values = np.random.default_rng(seed).random((10, 12, 14), np.float32)
        nib.save(nib.Nifti1Image(values, np.diag([1, 1, 1, 1.0])), folder / f"case{seed}_0000.nii.gz")
    return folder


def test_predict_then_evaluate(run: Run, tmp_path: Path, model: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(predict_main, "-i", images, "-o", out, "-m", model, "--fast", "--device", "cpu") == 0
    assert sorted(path.name for path in out.iterdir()) == [*(f"case{seed}.nii.gz" for seed in range(3)), "prediction.json"]
    record = PredictionRecord.read(out / "prediction.json")
    assert (record.folds, record.scales, record.mirror_axes, record.step) == (("0", "1"), (1.0,), (), 0.75)
    assert record.dataset == LABELS
    assert run(evaluate_main, out, out, "--surface", "--tolerance", 2) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["mean_foreground_dice"] == 1 and (out / "metrics.csv").is_file()
    assert "Mean foreground Dice 1.000, 3 cases" in capsys.readouterr().out


def test_work_is_continued_and_divided(run: Run, tmp_path: Path, model: Path, images: Path) -> None:
    out = tmp_path / "out"
    common = ("-i", images, "-o", out, "-m", model, "--fast", "--device", "cpu", "--quiet")
    assert run(predict_main, *common, "--part-id", 1, "--num-parts", 2) == 0
    assert [path.name for path in out.glob("*.nii.gz")] == ["case1.nii.gz"]
    before = (out / "case1.nii.gz").stat().st_mtime_ns
    assert run(predict_main, *common, "--continue") == 0
    assert len(list(out.glob("*.nii.gz"))) == 3
    assert (out / "case1.nii.gz").stat().st_mtime_ns == before
    assert run(predict_main, *common, "--continue") == 0


def test_one_file_to_one_file(run: Run, tmp_path: Path, model: Path, images: Path) -> None:
    target = tmp_path / "new" / "mine.nii.gz"
    options = ("--folds", 1, "--scales", "none", "--no-mirror", "--step-size", 1, "--preview", "--save-probabilities")
    assert run(predict_main, "-i", images / "case0_0000.nii.gz", "-o", target, "-m", model, *options) == 0
    names = sorted(path.name for path in target.parent.iterdir())
    assert names == ["mine.nii.gz", "mine_preview.png", "mine_probabilities.npz", "prediction.json"]


def test_one_bad_case_among_good_ones(
    run: Run, tmp_path: Path, model: Path, images: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (images / "case1_0000.nii.gz").write_bytes(b"junk")
    out = tmp_path / "out"
    assert run(predict_main, "-i", images, "-o", out, "-m", model, "--fast", "--device", "cpu") == 1
    assert sorted(path.name for path in out.glob("*.nii.gz")) == ["case0.nii.gz", "case2.nii.gz"]
    assert "case `case1` failed" in caplog.text and "case1_0000.nii.gz: the file cannot be read" in caplog.text
    (images / "case0_0000.nii.gz").write_bytes(b"junk")
    (images / "case2_0000.nii.gz").unlink()
    assert run(predict_main, "-i", images, "-o", out, "-m", model, "--fast", "--device", "cpu") == 2
    assert "2 faults in the input" in capsys.readouterr().err


def test_all_faults_of_the_command_line_at_once(
    run: Run, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ("--folds", 7, "--device", "cuda:99", "--scales", "0", "--part-id", 3)
    assert run(predict_main, "-i", tmp_path / "nothing", "-o", tmp_path / "out", "-m", model, *wrong) == 2
    printed = capsys.readouterr().err
    assert "5 faults in the input" in printed
    for part in ("fold_7", "cuda:99", "scales must be", "nothing: there is no such file", "part 3 of 1"):
        assert part in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--scales", "small"), "could not convert"), (("--step-size", 2), "the step must be"), (("--folds", 9), "fold_9")],
)
def test_wrong_options(run: Run, tmp_path: Path, model: Path, images: Path, capsys, arguments, message: str) -> None:  # type: ignore[no-untyped-def]
    assert run(predict_main, "-i", images, "-o", tmp_path / "out", "-m", model, *arguments) == 2
    assert message in capsys.readouterr().err


def test_an_empty_folder_and_a_missing_channel(run: Run, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert run(predict_main, "-i", tmp_path / "empty", "-o", tmp_path / "out", "-m", model) == 2
    assert "there is no image" in capsys.readouterr().err


def test_wrong_folders_to_evaluate(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(evaluate_main, tmp_path / "a", tmp_path / "b") == 2
    assert "3 faults in the input" in capsys.readouterr().err
    assert run(evaluate_main, tmp_path, tmp_path, "--tolerance", -1, "--jobs", 0, "--labels", tmp_path / "no.json") == 2
    assert "3 faults in the input" in capsys.readouterr().err
