"""se_predict follows what se_select wrote."""

import sys

import numpy as np
import pytest

from configs.files import read_json
from inference.prediction.cli import main as predict_main
from inference.prediction.command import ModelChoice, choose_models
from inference.prediction.postprocessing import Postprocessing, Rule, postprocess
from inference.prediction.selection import Selection
from preprocessing.formats.images import read_labels
from tests.inference.models import LABELS, write_model
from tests.preprocessing.datasets import image, save


def predict(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["se_predict", *map(str, arguments), "--device", "cpu", "--quiet"])
    return predict_main()


def selection(folder, rules, **changes):
    chosen = Selection(
        models=("models/a", "models/b"),
        folds=("1",),
        checkpoint="final",
        postprocessing=Postprocessing(rules=rules),
        command="",
        cases=1,
        candidates=(),
        gains={},
    )
    path = folder / "selection.json"
    chosen.model_copy(update=changes).write(path)
    return path


@pytest.fixture
def made(tmp_path):
    for name in ("a", "b"):
        write_model(tmp_path / "models" / name)
    save(tmp_path / "images/x_0000.nii.gz", image(3))
    return tmp_path


def test_weights_that_changed_since_the_selection_are_told(made, caplog):
    path = selection(made, {})
    choose_models(ModelChoice(()), path)
    selection(made, {}, networks=Selection.read(path).weights_of_now(path))
    choose_models(ModelChoice(()), path)
    assert not caplog.records
    (made / "models/b/fold_1/weights_final.safetensors").write_bytes(b"other")
    choose_models(ModelChoice(()), path)
    assert "was chosen with other weights of models/b, fold 1; run se_select again" in caplog.text


def test_models_folds_and_postprocessing_are_those_of_the_file(made, monkeypatch):
    rules = {"grey": Rule(only_largest=True), "bright": Rule(smallest_volume=3.0)}
    moved = made / "moved"
    path = selection(made, rules)
    moved.mkdir()
    (made / "models").rename(moved / "models")
    path = path.rename(moved / path.name)  # models are found beside the file
    assert predict(monkeypatch, "-i", made / "images", "-o", made / "followed", "--selection", path) == 0
    models = [moved / "models/a", moved / "models/b"]
    assert predict(monkeypatch, "-i", made / "images", "-o", made / "plain", "-m", *models, "--folds", 1) == 0
    plain, geometry = read_labels(made / "plain/x.nii.gz")
    followed, _ = read_labels(made / "followed/x.nii.gz")
    expected = postprocess(plain, geometry.voxel_volume, Postprocessing(rules=rules), LABELS)
    assert np.array_equal(followed, expected) and not np.array_equal(followed, plain)
    record = read_json(made / "followed/prediction.json")
    assert record["postprocessing"] == {"largest_of": [], "rules": {name: rule.model_dump() for name, rule in rules.items()}}
    assert [model["folds"] for model in record["models"]] == [["1"], ["1"]]
    assert read_json(made / "plain/prediction.json")["postprocessing"] == {"largest_of": [], "rules": {}}


def test_folds_of_the_command_line_count(made, monkeypatch):
    path = selection(made, {})
    assert predict(monkeypatch, "-i", made / "images", "-o", made / "out", "--selection", path, "--folds", 0) == 0
    assert [model["folds"] for model in read_json(made / "out/prediction.json")["models"]] == [["0"], ["0"]]


def test_wrong_files_and_options(made, monkeypatch, capsys):
    common = ("-i", made / "images", "-o", made / "out")
    path = selection(made, {"pink": Rule()})
    assert predict(monkeypatch, *common) == 2
    assert "--model and --selection: neither is given" in capsys.readouterr().err
    assert predict(monkeypatch, *common, "-m", made / "models/a", "--selection", path) == 2
    assert "--model and --selection: both are given" in capsys.readouterr().err
    assert predict(monkeypatch, *common, "--selection", path) == 2
    assert "postprocessing of `pink`: the dataset has no such label" in capsys.readouterr().err
    assert predict(monkeypatch, *common, "--selection", selection(made, {}, models=("models/none",))) == 2
    assert "the model folder does not exist" in capsys.readouterr().err
    path.write_text("{}")
    assert predict(monkeypatch, *common, "--selection", path) == 2
    assert not (made / "out").exists()
