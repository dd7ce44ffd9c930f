"""Datasets whose description contradicts itself or the data, through every command that reads it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

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
from preprocessing.store import CaseStore
from tests.inference.models import write_model
from tests.preprocessing.datasets import save
from tests.trainers.balls import write_work

SHAPE = (24, 24, 24)
WRONG = {"background": 0, "whole": [1, 2, 3], "core": [1, 2], "enh": 1}
RIGHT_ORDER, WRONG_ORDER = [3, 2, 1], [1, 2, 3]
Run = Callable[..., int]


def ball(radius: float) -> np.ndarray:
    return sum((axis - 12.0) ** 2 for axis in np.indices(SHAPE)) < radius**2


def write_dataset(folder: Path, truth: np.ndarray, scan: Callable[[np.random.Generator], np.ndarray], **content: object) -> Path:
    """Three cases with these labels and one channel, or as many as `channel_names` has."""
    description = {"channel_names": {"0": "MR"}, "file_ending": ".nii.gz"} | content
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps(description))
    for case in range(3):
        for channel in range(len(description["channel_names"])):  # type: ignore[arg-type]
            save(folder / f"imagesTr/c{case}_{channel:04d}.nii.gz", scan(np.random.default_rng(10 * case + channel)))
        save(folder / f"labelsTr/c{case}.nii.gz", truth)
    return folder


def regions(folder: Path, order: list[int]) -> Path:
    values = np.zeros(SHAPE, np.uint8)
    for value, radius in ((3, 9), (2, 6), (1, 3)):
        values[ball(radius)] = value
    noisy = values * 30.0
    return write_dataset(
        folder,
        values,
        lambda chance: (noisy + chance.normal(100, 10, SHAPE)).astype(np.float32),
        labels=WRONG,
        regions_class_order=order,
    )


def plan_words(dataset: Path, work: Path) -> list[object]:
    return [dataset, "--work", work, "--network", "baseline", "--configurations", "3d_fullres", "--jobs", 1]


def test_regions_out_of_order_are_refused_by_planning(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = regions(tmp_path / "raw", WRONG_ORDER)
    assert run(planners.cli.main, *plan_words(dataset, tmp_path / "work")) == 2
    assert "value 1 (whole, core, enh) becomes 3 (whole)" in capsys.readouterr().err
    dataset = regions(tmp_path / "right", RIGHT_ORDER)
    assert run(planners.cli.main, *plan_words(dataset, tmp_path / "work")) == 0


def contradict(plan: Path) -> None:
    """Write such regions into a plan, as the software accepted them before."""
    content = json.loads(plan.read_text())
    content["dataset"] |= {"labels": WRONG, "regions_class_order": WRONG_ORDER}
    plan.write_text(json.dumps(content))


@pytest.mark.parametrize("command", ["predict", "report", "bundle", "robustness"])
def test_models_with_regions_out_of_order_are_refused(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    model = write_model(tmp_path / "Data/models/3d_fullres_baseline", ("0",))
    contradict(model / "plan.json")
    image = save(tmp_path / "c_0000.nii.gz", np.ones(SHAPE, np.float32))
    commands = {
        "predict": (inference.prediction.cli.main, "-i", image, "-o", tmp_path / "out", "-m", model),
        "report": (inference.report.cli.main, model),
        "bundle": (inference.bundle.cli.main, "export", model, "-o", tmp_path / "x.zip"),
        "robustness": (inference.evaluation.cli.main, "-m", model),
    }
    assert run(*commands[command]) == 2
    assert "value 1 (whole, core, enh) becomes 3 (whole)" in capsys.readouterr().err


def test_training_refuses_regions_out_of_order(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    contradict(write_work(tmp_path / "work") / "Balls/plan.json")
    assert run(trainers.cli.main, "Balls", "--work", tmp_path / "work", "--network", "baseline") == 2
    assert "value 1 (whole, core, enh) becomes 3 (whole)" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["--labels", "beside"])
def test_evaluation_refuses_regions_out_of_order(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    dataset = regions(tmp_path / "raw", WRONG_ORDER)
    shutil.copytree(dataset / "labelsTr", tmp_path / "predicted")
    words = ["--labels", dataset / "dataset.json"] if place == "--labels" else []
    assert run(inference.evaluation.cli.main, tmp_path / "predicted", dataset / "labelsTr", *words) == 2
    assert "value 3 (whole) becomes 1 (whole, core, enh)" in capsys.readouterr().err


def test_two_channels_of_a_name_are_planned(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """CT in two phases. The former remedy, to rename one, would have changed its normalisation."""
    names = {"0": "CT", "1": "CT"}
    labels = ball(6).astype(np.uint8)

    def scan(chance: np.random.Generator) -> np.ndarray:
        return (100.0 * labels + chance.normal(40, 10, SHAPE)).astype(np.float32)

    dataset = write_dataset(tmp_path / "raw", labels, scan, channel_names=names, labels={"background": 0, "thing": 1})
    assert run(planners.cli.main, *plan_words(dataset, tmp_path / "work")) == 0
    plan = Plan.read(tmp_path / "work/raw/plan.json")
    assert [channel.scheme for channel in plan.configuration("3d_fullres").normalisation] == ["ct", "ct"]
    assert "CT (channel 1): clipped to" in capsys.readouterr().out
    stated = [*plan_words(dataset, tmp_path / "work"), "--plan-only", "--normalisation", "zscore", "CT"]
    assert run(planners.cli.main, *stated) == 0
    plan = Plan.read(tmp_path / "work/raw/plan.json")
    assert [channel.scheme for channel in plan.configuration("3d_fullres").normalisation] == ["zscore", "ct"]
    assert run(planners.cli.main, *stated, "ct") == 2
    assert "3 schemes for 2 channels" in capsys.readouterr().err


def test_a_window_without_width_leaves_images_that_can_be_learned(tmp_path: Path, run: Run) -> None:
    """Every labelled voxel has the scanner's largest value, to which all images used to be clipped."""
    labels = ball(6).astype(np.uint8)

    def scan(chance: np.random.Generator) -> np.ndarray:
        return np.where(labels, 3071, chance.normal(0, 200, SHAPE)).astype(np.int16)

    dataset = write_dataset(
        tmp_path / "raw", labels, scan, channel_names={"0": "CT"}, labels={"background": 0, "metal": 1, "never": 2, "Ignore": 3}
    )
    assert run(planners.cli.main, *plan_words(dataset, tmp_path / "work")) == 0
    plan = Plan.read(tmp_path / "work/raw/plan.json").configuration("3d_fullres")
    assert plan.normalisation[0].scheme == "zscore"
    assert "clipping to this window would make images constant" in plan.reasons["normalisation"]
    prepared = CaseStore(tmp_path / "work/raw/preprocessed/3d_fullres").read("c0")
    image = prepared.image[:]
    assert np.std(image) == pytest.approx(1, abs=0.01) and np.ptp(image[0][prepared.labels[:] == 0]) > 1


def test_labels_that_occur_nowhere_are_told_on_the_terminal(tmp_path: Path, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    labels = ball(6).astype(np.uint8)

    def scan(chance: np.random.Generator) -> np.ndarray:
        return (100.0 * labels + chance.normal(40, 10, SHAPE)).astype(np.float32)

    names = {"background": 0, "thing": 1, "never": 2}
    dataset = write_dataset(tmp_path / "raw", labels, scan, channel_names={"0": "rescale to 0..1"}, labels=names)
    huge = np.diag([90.0, 90.0, 90.0, 1])
    for case in range(3, 6):
        save(dataset / f"imagesTr/c{case}_0000.nii.gz", scan(np.random.default_rng(case)), huge if case == 3 else None)
        save(dataset / f"labelsTr/c{case}.nii.gz", labels, huge if case == 3 else None)
    assert run(planners.cli.main, *plan_words(dataset, tmp_path / "work"), "--plan-only") == 0
    told = caplog.text
    assert "1 label never present: No case has never," in told
    assert (
        "channel `rescale to 0..1`: the name resembles the normalisation `rescale`, but is not its name, so `zscore` is taken"
        in told
    )
    assert "1 case with an unusual spacing: The spacing of c3 (90 x 90 x 90 mm)" in told
    assert "1 case many times larger than the median: At 1 x 1 x 1 mm, c3 (2160 x 2160 x 2160 voxels)" in told


@pytest.mark.parametrize("name", ["twice.csv", "twice.json", "spreadsheet.csv", "utf16.csv"])
def test_groups_of_a_training(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str], name: str) -> None:
    rows = [f"case_{index},{'AABBCC'[index]}" for index in range(6)]
    contents = {
        "twice.csv": "\n".join([*rows, "case_0,B"]).encode(),
        "twice.json": b'{"case_0": "A", "case_1": "B", "case_0": "B"}',
        "spreadsheet.csv": ("\ufeff" + "\r\n".join(rows)).encode(),
        "utf16.csv": "\r\n".join(rows).encode("utf-16"),
    }
    (tmp_path / name).write_bytes(contents[name])
    work = write_work(tmp_path / "work")
    words = [
        "Balls",
        "--work",
        work,
        "--network",
        "baseline",
        "--epochs",
        1,
        "--iterations",
        1,
        "--workers",
        0,
        "--device",
        "cpu",
    ]
    code = run(trainers.cli.main, *words, "--set", "validation_iterations=1", "--group-by", tmp_path / name)
    told = capsys.readouterr().err
    if name == "spreadsheet.csv":
        assert code == 0
        groups = {row.split(",")[0]: row.split(",")[1] for row in rows}
        for fold in json.loads((work / "Balls/splits.json").read_text()):
            assert not {groups[case] for case in fold["train"]} & {groups[case] for case in fold["val"]}
        return
    message = {"twice.csv": "case `case_0`: lines 1 and 7 list it", "twice.json": "an object has `case_0` twice"}
    assert code == 2 and message.get(name, "the text is encoded as UTF-16") in told
    assert not (work / "Balls/splits.json").exists()


@pytest.mark.parametrize(
    ("command", "words", "told"),
    [
        (trainers.cli.main, ['class_weights={"brigth": 2}'], "the dataset has no label `brigth` to centre patches on"),
        (trainers.cli.main, ['class_weights={"dark": 1, "dark": 2}'], "class_weights"),
    ],
)
def test_weights_of_labels_that_do_not_exist(
    tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str], command: Callable[[], int], words: list[str], told: str
) -> None:
    work = write_work(tmp_path / "work")
    assert run(command, "Balls", "--work", work, "--network", "baseline", "--set", *words) == 2
    assert told in capsys.readouterr().err and not (work / "Balls/models").exists()


def test_a_region_of_interest_that_does_not_exist(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model(tmp_path / "model", ("0",))
    image = save(tmp_path / "c_0000.nii.gz", np.ones(SHAPE, np.float32))
    assert run(inference.prediction.cli.main, "-i", image, "-o", tmp_path / "out", "-m", model, "--roi", "grey", "brain") == 2
    assert "label `brain`: the model does not predict this label" in capsys.readouterr().err
    assert Predictor.load(model).description.foreground == ("grey", "bright")
