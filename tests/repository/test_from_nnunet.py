"""Every command of the page for users of nnU-Net does what it is shown for, on a tiny dataset with a tiny trained nnU-Net model."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from tests.inference.bundle.nnunet.results import DATASET, plans, write_results
from tests.preprocessing.datasets import image, labels, save
from tests.repository.test_docs import DOCS, PARSERS, ROOT, examples

PAGE = (DOCS / "how_to" / "from_nnunet.md").read_text(encoding="utf-8")
NAME, CASES = "Dataset004_Hippocampus", 5
MODEL = f"se_work/{NAME}/models/3d_fullres_se"
THEIRS = f"nnUNet_results/{NAME}/nnUNetTrainer__nnUNetPlans__3d_fullres"
# One step instead of 250,000, with a tiny network.
TINY = ["--device", "cpu", "--set", "iterations=1", "validation_iterations=1", "base_features=2", "workers=0"]
SHORT = ["--epochs", "1"]
# What the page leaves open, or what is too large for a test.
FILLED_IN = {
    "se_train ... --network nnunet": f"se_train {NAME} --network nnunet",
    "--epochs 100": "--epochs 2",
    "--num-gpus 4": "--num-gpus 2 --batch-size 2",
    "--ensembles": "--ensembles --folds 0",
    "-i IN -o OUT": f"-i {NAME}/imagesTs -o OUT",
    "-m MODEL": f"-m {MODEL}",
    "export MODEL -o FILE": f"export {MODEL} -o model.zip",
    "import FILE": "import model.zip -o imported",
    "--init-weights FILE": f"--init-weights {THEIRS}/fold_0/checkpoint_final.pth",
    "-i images": f"-i {NAME}/imagesTs",
}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]


def commands_of(text: str) -> list[str]:
    """The commands between backticks, with what they leave open filled in."""
    found = [piece for piece in re.findall(r"`([^`]+)`", text) if piece.split()[0] in PARSERS and len(piece.split()) > 1]
    for placeholder, filled in FILLED_IN.items():
        found = [command.replace(placeholder, filled) for command in found]
    return found


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a command in this process."""
    name, *words = shlex.split(command)
    if name == "se_train":
        words += TINY + ([] if "--epochs" in words else SHORT)
    if "--num-gpus" in words:  # the command becomes a program that starts the others
        line = [sys.executable, "-m", PARSERS[name].split(":")[0], *words]
        return subprocess.run(line, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False).returncode
    monkeypatch.setattr(sys, "argv", [name, *words])
    result = import_module(PARSERS[name].split(":")[0]).main()
    return int(result or 0)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a user has a dataset, nnU-Net's results of it, and here a plan, two trained networks and a selection."""
    folder = tmp_path_factory.mktemp("begun")
    write_dataset(folder / NAME)
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans()))
    (folder / "nnUNet_results").mkdir()
    shutil.move(write_results(folder / "theirs"), folder / "nnUNet_results" / NAME)
    splits = folder / "nnUNet_preprocessed" / NAME / "splits_final.json"
    splits.parent.mkdir(parents=True)
    names = [f"case_{number}" for number in range(CASES)]
    splits.write_text(json.dumps([{"train": [each for each in names if each != name], "val": [name]} for name in names]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in (
            f"se_plan_and_preprocess {NAME} --jobs 1 --configurations 3d_fullres --patch-size 8 8 8",
            *(f"se_train {NAME} --network {network} --fold 0" for network in ("se", "baseline")),
            f"se_train {NAME} --network se --fold all",
            f"se_select se_work/{NAME} --folds 0 --ensembles",
            f"se_predict -i {NAME}/imagesTs -o OUT -m {MODEL}",
        ):
            assert run(command, patch) == 0, command
    return folder


def write_dataset(folder: Path) -> None:
    """A dataset of the channels and labels of the results, with images and labels for testing."""
    folder.mkdir()
    (folder / "dataset.json").write_text(json.dumps(DATASET | {"numTraining": CASES}))
    for part, numbers in (("Tr", range(CASES)), ("Ts", range(CASES, CASES + 1))):
        for number in numbers:
            for channel in range(2):
                save(folder / f"images{part}/case_{number}_000{channel}.nii.gz", image(number + channel))
            save(folder / f"labels{part}/case_{number}.nii.gz", labels().astype(np.uint8))


@pytest.fixture
def place(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what was begun, as the working directory."""
    shutil.copytree(begun, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


COMMANDS = [(row[0], command) for row in rows("Commands") if (command := "\n".join(commands_of(row[-1])))]


@pytest.mark.thorough
@pytest.mark.parametrize(("theirs", "ours"), COMMANDS, ids=[theirs.strip("`")[:60] for theirs, _ in COMMANDS])
def test_each_row_of_the_commands(theirs: str, ours: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del theirs
    for command in ours.splitlines():
        if "-o OUT" in command and "--continue" not in command:
            shutil.rmtree(place / "OUT")
        if command.startswith("se_train") and "--resume" not in command and "--validate-only" not in command:
            shutil.rmtree(place / "se_work" / NAME / "models")
        assert run(command, monkeypatch) == 0, command
        assert "-o OUT" not in command or (place / "OUT" / f"case_{CASES}.nii.gz").is_file()


@pytest.mark.thorough
@pytest.mark.parametrize("heading", ["Predict with a trained nnU-Net model", "A first comparison on your data"])
def test_each_example(heading: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(place / "se_work")
    for line in examples(PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]):
        command = commands_of(f"`{line.strip()}`")[0]
        assert run(command, monkeypatch) == 0, command


def files_of(cell: str) -> Iterator[str]:
    """Names of files between backticks."""
    for piece in re.findall(r"`([^`]+)`", cell):
        if re.fullmatch(r"[\w./*]+\.(json|csv|html|safetensors|pt|png|b2nd)", piece):
            yield piece


@pytest.mark.thorough
def test_each_file_of_ours_is_written(place: Path) -> None:
    names = {name for row in rows("Files") for name in files_of(row[-1])}
    assert len(names) >= 12
    folder = place / "se_work" / NAME
    assert [name for name in sorted(names) if name != "splits_final.json" and not list(folder.rglob(name))] == []


def test_the_page_is_read_whole() -> None:
    """Of the rows without a command each is known, so that a new row cannot pass by."""
    silent = [row[0] for row in rows("Commands") if not commands_of(row[-1])]
    assert silent == [
        "`nnUNetv2_convert_MSD_dataset`",
        "a dataset of natural images (`NaturalImage2DIO`)",
        "`nnUNetPredictor` in Python",
    ]
    assert len(COMMANDS) >= 16
