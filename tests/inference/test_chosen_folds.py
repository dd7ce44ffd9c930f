"""What the words of --folds mean, in every command that has them."""

import json
import logging
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from configs.errors import InputError
from configs.files import read_json
from inference.bundle.cli import main as bundle
from inference.evaluation.robustness import HeldOut
from inference.model import chosen_folds, load_model
from inference.prediction.cli import main as predict
from tests.inference.models import write_model
from tests.preprocessing.datasets import save


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "work/toy/models/model", folds=("0", "1", "all"))


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    return write_model(tmp_path / "numbered", folds=("0", "1"))


@pytest.mark.parametrize(("words", "folds"), [(["all"], ["all"]), (["every"], ["0", "1", "all"]), (["1", "all"], ["1", "all"])])
def test_commands_take_the_named_folds(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], folds: list[str]
) -> None:
    save(tmp_path / "images" / "a_0000.nii.gz", np.random.default_rng(0).random((18, 21, 13), np.float32))
    line = ["se_predict", "-i", tmp_path / "images", "-o", tmp_path / "out", "-m", model, "--fast", "--device", "cpu", "--folds"]
    monkeypatch.setattr(sys, "argv", [*map(str, line), *words])
    assert predict() == 0
    assert read_json(tmp_path / "out/prediction.json")["models"][0]["folds"] == folds
    line = ["se_bundle", "export", model, "-o", tmp_path / "toy.zip", "--folds"]
    monkeypatch.setattr(sys, "argv", [*map(str, line), *words])
    assert bundle() == 0
    weights = [name for name in zipfile.ZipFile(tmp_path / "toy.zip").namelist() if name.endswith(".safetensors")]
    assert sorted(weights) == [f"fold_{fold}/weights_final.safetensors" for fold in folds]


def test_words_stand_for_folds(model: Path, numbered: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert chosen_folds(None, [model]) is chosen_folds(["every"], [model]) is None
    assert chosen_folds(["all"], [numbered, model]) == ("all",)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert chosen_folds(["all"], [numbered]) is None
    assert "fold all is not trained, so every trained fold is taken; write --folds every" in caplog.text
    with pytest.raises(InputError, match="`every` already names all trained folds"):
        chosen_folds(["every", "0"], [model])


def test_fold_all_holds_nothing_out(model: Path) -> None:
    splits = [{"train": ["b"], "val": ["a"]}, {"train": ["a"], "val": ["b"]}]
    (model.parents[1] / "splits.json").write_text(json.dumps(splits))
    assert HeldOut(model).cases_of(load_model(model)) == {"0": ["a"], "1": ["b"]}
    with pytest.raises(InputError, match="trained on every case"):
        HeldOut(model, folds=["all"]).cases_of(load_model(model, ["all"]))
