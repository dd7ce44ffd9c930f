"""`se_predict --continue` keeps what the same models made with the same options, and nothing else."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.files import read_json, write_json
from inference.prediction.cli import main as predict
from se_unet.weights import save_weights
from tests.inference.models import build_network, plan, write_model
from tests.preprocessing.datasets import save

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """se_predict of two small images into the folder `out`."""
    for case in "ab":
        save(tmp_path / f"images/{case}_0000.nii.gz", np.random.default_rng(ord(case)).random((12, 11, 13), np.float32))

    def call(model: Path, *words: object, images: str = "images") -> int:
        line = [
            "se_predict",
            "-i",
            tmp_path / images,
            "-o",
            tmp_path / "out",
            "-m",
            model,
            "--fast",
            "--device",
            "cpu",
            "--quiet",
        ]
        monkeypatch.setattr(sys, "argv", [*map(str, line), *map(str, words)])
        return predict()

    return call


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


def retrain(model: Path) -> None:
    torch.manual_seed(7)
    save_weights(build_network(plan().network("3d_fullres", "baseline").network), model / "fold_0/weights_final.safetensors")


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.nii.gz")}


def test_the_same_model_goes_on_wherever_it_lies(run: Run, model: Path, tmp_path: Path) -> None:
    assert run(model) == 0
    before = times(tmp_path / "out")
    (tmp_path / "out/a.nii.gz").unlink()
    model = model.rename(tmp_path / "moved")
    assert run(model, "--continue") == run(model, "--continue", "--tile-batch", 1) == 0
    assert times(tmp_path / "out")["b.nii.gz"] == before["b.nii.gz"] and (tmp_path / "out/a.nii.gz").is_file()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--folds", 0), "folds was 0 1, now 0"),
        (("--step-size", 0.5), "step was 0.75, now 0.5"),
        (("--mirror",), "mirror axes was , now 2"),
        (("--scales", 0.8, 1), "scales was 1.0, now 0.8 1.0"),
        (("--average", "logits"), "average was probabilities, now logits"),
        (("--roi", "grey"), "roi was None, now grey"),
    ],
)
def test_other_options_are_refused(
    run: Run, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[object, ...], told: str
) -> None:
    assert run(model) == 0
    before = times(tmp_path / "out")
    assert run(model, "--continue", *words) == 2
    printed = capsys.readouterr().err
    assert "1 fault" in printed and f"made otherwise: {told}" in printed and "--continue" in printed
    assert times(tmp_path / "out") == before


def test_other_weights_are_refused(run: Run, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(model) == 0
    retrain(model)
    assert run(model, "--continue") == 2
    assert "the weights of" in capsys.readouterr().err


def test_another_plan_is_refused(run: Run, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(model) == 0
    plan(spacing=(2.0, 1.0, 1.0), scheme="zscore").write(model / "plan.json")
    assert run(model, "--continue") == 2
    assert "the plan of" in capsys.readouterr().err


def test_segmentations_that_another_model_left_are_made_again(run: Run, model: Path, tmp_path: Path) -> None:
    """The other model segmented both cases, this one only the first before it was stopped."""
    assert run(model) == 0
    old = (tmp_path / "out/b.nii.gz").read_bytes()
    retrain(model)
    shutil.copytree(tmp_path / "images", tmp_path / "some", ignore=shutil.ignore_patterns("b_*"))
    assert run(model, images="some") == 0
    new = times(tmp_path / "out")["a.nii.gz"]
    assert run(model, "--continue") == 0
    assert times(tmp_path / "out")["a.nii.gz"] == new and (tmp_path / "out/b.nii.gz").read_bytes() != old


def test_records_of_earlier_versions_go_on(
    run: Run, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert run(model) == 0
    path = tmp_path / "out/prediction.json"
    record = read_json(path)
    for name in ("first_stage", "older"):
        del record[name]
    for name in ("weights", "plan"):
        del record["models"][0][name]
    write_json(path, record)
    before = times(tmp_path / "out")
    assert run(model, "--continue") == 0
    assert times(tmp_path / "out") == before
    write_json(path, record)
    assert run(write_model(tmp_path / "other"), "--continue") == 2
    assert "model was" in capsys.readouterr().err
    path.unlink()
    assert run(model, "--continue") == 0
    assert "segmentations there are taken for those of the same models" in caplog.text
