"""Every command finds an output that cannot be written, and a name that leads out of its folder, before it works."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from inference.prediction.cli import main as predict
from planners.cli import main as plan
from tests.faults.commands import COMMANDS
from tests.inference.models import write_model
from tests.preprocessing.datasets import make_dataset, save
from tests.trainers.balls import write_work
from trainers.cli import main as train

MODEL = "work/Balls/models/3d_fullres_baseline"

# Command of tests/faults -> what stands where it writes: a file where it needs a folder, or a folder (with a slash) where it needs a file.
OBSTACLES = {
    "plan": ["work/data"],
    "preprocess": ["work"],
    "train": ["work/Balls/models", MODEL, f"{MODEL}/fold_0"],
    "predict": ["segmentations", "segmentations/a.nii.gz/"],
    "bundle import": ["model", "model/"],
    "bundle export": ["toy.zip/"],
    "evaluate": ["metrics.json/", "metrics.csv/"],
    "select": ["work/raw/selection.json/"],
    "report": ["work/models.html/"],
    "bundle onnx": ["toy.onnx/"],
}


def contents(folder: Path) -> dict[str, bytes]:
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    return {name: path.read_bytes() if path.is_file() else b"" for name, path in files.items() if "logs" not in name}


@pytest.mark.parametrize(("name", "obstacle"), [(name, place) for name, places in OBSTACLES.items() for place in places])
def test_outputs_are_checked_before_work(
    name: str, obstacle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = next(command for command in COMMANDS if command.name == name)
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    command.prepare(source, target)
    place = target / obstacle
    if obstacle == "work":
        place.rename(target / "elsewhere")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.mkdir() if obstacle.endswith("/") else place.touch()
    before = contents(target)
    monkeypatch.setattr(sys, "argv", list(command.words(source, target)))
    assert command.main() == 2
    assert str(place) in capsys.readouterr().err
    assert contents(target) == before


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A dataset whose dataset.json lists its cases by name."""
    folder = make_dataset(tmp_path / "data", cases=4)
    stated = json.loads((folder / "dataset.json").read_text())
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (folder / "labelsTr").iterdir())
    stated["dataset"] = {case: {"images": [f"imagesTr/{case}_0000.nii.gz"], "label": f"labelsTr/{case}.nii.gz"} for case in cases}
    (folder / "dataset.json").write_text(json.dumps(stated))
    return folder


@pytest.mark.parametrize("name", ["../../escape", "/tmp/escape", "", ".", "..", "a/b"])
def test_names_of_cases_that_lead_out(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stated = json.loads((data / "dataset.json").read_text())
    stated["dataset"][name] = stated["dataset"].pop("case_0")
    (data / "dataset.json").write_text(json.dumps(stated))
    monkeypatch.setattr(sys, "argv", ["se_plan_and_preprocess", str(data), "--work", str(tmp_path / "work"), "--jobs", "1"])
    assert plan() == 2
    assert f"case `{name}`: the name is" in capsys.readouterr().err
    save(tmp_path / "images/a_0000.nii.gz", np.zeros((9, 9, 9), np.float32))
    (tmp_path / "cases.json").write_text(json.dumps({name: ["images/a_0000.nii.gz"], "fine": ["images/a_0000.nii.gz"]}))
    model = write_model(tmp_path / "model", folds=("0",))
    words = ["-i", tmp_path / "cases.json", "-o", tmp_path / "out", "-m", model, "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["se_predict", *map(str, words)])
    assert predict() == 2
    assert f"case `{name}`: the name is" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not (tmp_path / "work").exists()


@pytest.mark.parametrize("tag", ["../x", "/tmp/x", "a/b", "."])
def test_tags_that_lead_out(
    tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = write_work(tmp_path / "work")
    monkeypatch.setattr(sys, "argv", ["se_train", "Balls", "--work", str(work), "--network", "baseline", "--tag", tag])
    assert train() == 2
    assert f"tag `{tag}`" in capsys.readouterr().err
    assert not (work / "Balls/models").exists()
