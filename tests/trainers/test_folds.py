"""What a fold was trained on is recorded with it, and everything that asks for it holds the present splits against the record."""

import json
import logging
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import blosc2
import numpy as np
import pytest

from configs.errors import InputError
from configs.files import read_json, write_json
from configs.folders import FoldFolder
from configs.plan import SizeRange
from configs.progress import Silent
from configs.training import TrainingConfig
from inference.bundle.export import export_bundle
from inference.evaluation.calibration import calibrate_held_out
from inference.evaluation.robustness import HeldOut, scale_robustness, validation_cases
from inference.model import load_model, weights_digests
from inference.report.run import ReportOptions, write_report
from inference.selection.run import SelectionOptions, select
from inference.sizes.search import uncalibrated
from planners.options import PlanningOptions
from planners.run import plan_and_preprocess
from preprocessing.dataset.splits import read_splits
from preprocessing.formats.images import read_labels, write_labels
from preprocessing.store import CaseStore
from tests.preprocessing.datasets import labels, make_dataset, save
from tests.trainers.balls import CASES, DESCRIPTION, write_work
from trainers import train
from trainers.data.previous_stage import PreviousStage
from trainers.monitoring.history import History

NAMES = [f"case_{index}" for index in range(CASES)]


SHORT = TrainingConfig(epochs=1, iterations=1, validation_iterations=1, workers=0)


def run(work: Path, config: TrainingConfig = SHORT, fold: int | str = 0, **options: object) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(History, "write_picture", lambda history, path: path.write_bytes(b""))
        return train("Balls", work, "baseline", fold=fold, config=config, device="cpu", **options)  # type: ignore[arg-type]


def write_splits(work: Path, *validation: list[str]) -> None:
    """Folds that validate these cases and train on the others."""
    splits = [{"train": [name for name in NAMES if name not in part], "val": part} for part in validation]
    (work / "Balls" / "splits.json").write_text(json.dumps(splits))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WORK folder with a model of two folds."""
    work = write_work(tmp_path_factory.mktemp("trained") / "work")
    write_splits(work, NAMES[:3], NAMES[3:])
    for fold in (0, 1):
        run(work, fold=fold)
    return work


@pytest.fixture
def work(trained: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return Path(shutil.copytree(trained, tmp_path / "work"))


@pytest.fixture
def model(work: Path) -> Path:
    """The folder of the model."""
    return work / "Balls" / "models" / "3d_fullres_baseline"


def previous(work: Path, model: Path) -> None:
    """What a cascade whose first network is this model asks for."""
    folder = FoldFolder(model / "fold_0").model
    stage = PreviousStage(work / "Balls" / "preprocessed" / "previous", DESCRIPTION.cascade_channels)
    stage.prepare(folder, CaseStore(work / "Balls" / "preprocessed" / "3d_fullres"), NAMES, DESCRIPTION, Silent())


def resume(work: Path) -> None:
    run(work, SHORT.model_copy(update={"epochs": 2}), resume=True)


USES: dict[str, Callable[[Path, Path], object]] = {
    "resume": lambda work, model: resume(work),
    "validate": lambda work, model: run(work, validate_only=True),
    "sizes": lambda work, model: scale_robustness(HeldOut(model, device="cpu", mirror=False), (1.0,)),
    "calibration": lambda work, model: calibrate_held_out(HeldOut(model, device="cpu", mirror=False)),
    "select": lambda work, model: select(work / "Balls", options=SelectionOptions(postprocessing=False)),
    "report": lambda work, model: write_report(model, options=ReportOptions(worst=0, equivariance=False)),
    "reports": lambda work, model: write_report(work, options=ReportOptions(worst=0, equivariance=False)),
    "cascade": lambda work, model: previous(work, model),
    "bundle": lambda work, model: export_bundle(model, work / "model.zip"),
}


@pytest.mark.parametrize("use", USES)
def test_other_splits_are_refused_with_the_cases_that_moved(work: Path, model: Path, use: str) -> None:
    write_splits(work, ["case_0", "case_1", "case_5"], ["case_2", "case_3", "case_4"])
    with pytest.raises(
        InputError, match=r"case_5 moved from training to validation; case_2 moved from validation to training"
    ) as caught:
        USES[use](work, model)
    assert "fold_0" in str(caught.value) and "--restart" in str(caught.value)


@pytest.mark.parametrize("use", USES)
def test_the_same_splits_in_other_words_are_accepted(work: Path, model: Path, use: str) -> None:
    path = work / "Balls" / "splits.json"
    splits = read_json(path)
    path.write_text(json.dumps([{"val": one["val"][::-1], "train": one["train"]} for one in splits], indent=4))
    USES[use](work, model)


@pytest.mark.parametrize("use", [use for use in USES if use != "select"])
def test_without_splits_the_record_stands(work: Path, model: Path, use: str) -> None:
    (work / "Balls" / "splits.json").unlink()
    USES[use](work, model)
    assert not (work / "Balls" / "splits.json").exists()


@pytest.mark.parametrize("use", USES)
def test_folds_of_earlier_versions_go_on_with_the_present_splits(
    work: Path, model: Path, use: str, caplog: pytest.LogCaptureFixture
) -> None:
    for fold in (0, 1):
        (model / f"fold_{fold}" / "split.json").unlink()
        (model / f"fold_{fold}" / "validation" / "weights.json").unlink()
    with caplog.at_level(logging.WARNING):
        USES[use](work, model)
    assert ("the present splits are taken for those of its training" in caplog.text) == (
        use not in ("select", "report", "reports", "bundle")
    )


def test_scores_of_earlier_versions_are_held_against_the_splits(
    work: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (model / "fold_0" / "split.json").unlink()
    write_splits(work, ["case_0"], NAMES[3:])
    with caplog.at_level(logging.WARNING):
        USES["select"](work, model)
    assert "fold_0 has no split.json" in caplog.text


def test_the_record_says_what_was_trained_on(work: Path, model: Path) -> None:
    record, split = read_json(model / "fold_0" / "split.json"), read_splits(work / "Balls" / "splits.json")[0]
    assert record["training"] == list(split.training) and record["validation"] == list(split.validation)
    assert len(record["splits"]) == 64
    assert read_json(run(work, SHORT, "all") / "split.json") == {"training": NAMES, "validation": NAMES, "splits": None}


def test_a_restart_takes_the_present_splits(work: Path, model: Path) -> None:
    write_splits(work, NAMES[2:4], NAMES[4:])
    run(work, SHORT, restart=True)
    assert validation_cases(model, "0") == NAMES[2:4]
    assert sorted(path.name for path in (model / "fold_0" / "validation").glob("*.nii.gz")) == ["case_2.nii.gz", "case_3.nii.gz"]


def test_cases_of_a_fold_that_are_gone_are_named(work: Path, model: Path) -> None:
    (work / "Balls" / "splits.json").unlink()
    CaseStore(work / "Balls" / "preprocessed" / "3d_fullres").remove("case_4")
    with pytest.raises(InputError, match=r"case `case_4`: .*fold_0 was trained with it, but it is not prepared"):
        USES["resume"](work, model)


def test_fold_all_goes_on_with_all_its_cases(work: Path, model: Path) -> None:
    run(work, SHORT, "all")
    run(work, SHORT.model_copy(update={"epochs": 2}), "all", resume=True)
    CaseStore(work / "Balls" / "preprocessed" / "3d_fullres").remove("case_4")
    with pytest.raises(InputError, match="case_4 moved from training and validation to neither part"):
        run(work, SHORT.model_copy(update={"epochs": 3}), "all", resume=True)
    with pytest.raises(InputError, match="trained on every case"):
        validation_cases(work / "Balls" / "models" / "3d_fullres_baseline", "all")


def test_segmentations_of_other_weights_are_not_taken(work: Path, model: Path) -> None:
    other = run(work, SHORT.model_copy(update={"seed": 5}), tag="other")
    shutil.copy(other / "weights_final.safetensors", model / "fold_0" / "weights_final.safetensors")
    with pytest.raises(InputError, match=r"fold_0: its validation was made with other weights.*--validate-only"):
        previous(work, model)
    with pytest.raises(InputError, match="fold 0 validated with other weights than it has now"):
        USES["select"](work, model)
    export_bundle(model, work / "model.zip")
    card = zipfile.ZipFile(work / "model.zip").read("model_card.md").decode()
    assert "| 1 | 3 |" in card and "| 0 | 3 |" not in card
    page = write_report(model, options=ReportOptions(worst=0, equivariance=False))
    assert "its validation was made with other weights" in page.read_text()
    run(work, SHORT, validate_only=True)
    for use in ("cascade", "select"):
        USES[use](work, model)


def test_what_was_learned_and_measured_with_other_weights_is_told(
    work: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scale_robustness(HeldOut(model, device="cpu", mirror=False), (1.0,)).write(model / "scale_robustness.json")
    digests = weights_digests(model, None, "final")
    made = uncalibrated(load_model(model).plan.dataset.foreground, SizeRange(low=0.8, high=1.25))
    made.model_copy(update={"networks": digests}).write(model / "calibration.json")
    assert load_model(model).calibration is not None
    without = ReportOptions(worst=0, equivariance=False)
    assert "other weights" not in write_report(model, options=without).read_text() + caplog.text
    run(work, SHORT.model_copy(update={"seed": 5}), tag="other")
    shutil.copy(model.with_name(f"{model.name}_other") / "fold_0/weights_final.safetensors", model / "fold_0")
    (model / "fold_0/weights_best.safetensors").unlink()
    load_model(model)
    assert "it was made with other weights" in caplog.text and load_model(model).calibration is None
    assert "scale_robustness.json: it was measured with other weights" in write_report(model, options=without).read_text()


def test_segmentations_of_cases_that_are_validated_no_more_are_not_taken(work: Path, model: Path) -> None:
    trained_on = model / "fold_0" / "validation" / "case_4.nii.gz"
    shutil.copy(model / "fold_1" / "validation" / "case_4.nii.gz", trained_on)
    (model / "fold_1" / "validation" / "case_4.nii.gz").unlink()
    with pytest.raises(InputError, match=r"case `case_4`: no fold of .* has segmented it"):
        previous(work, model)
    run(work, SHORT, validate_only=True)
    assert not trained_on.exists()


def test_resampled_segmentations_follow_the_segmentations(work: Path, model: Path) -> None:
    """Whatever the times of the files say."""
    previous(work, model)
    resampled = work / "Balls" / "preprocessed" / "previous" / "case_4.b2nd"
    before, time = blosc2.open(str(resampled), mode="r")[:], resampled.stat().st_mtime_ns
    previous(work, model)
    assert resampled.stat().st_mtime_ns == time
    segmentation = model / "fold_1" / "validation" / "case_4.nii.gz"
    labels, geometry = read_labels(segmentation)
    write_labels(segmentation, np.where(labels == 2, 5, 2), geometry)
    os.utime(segmentation, (1, 1))
    previous(work, model)
    assert not np.array_equal(blosc2.open(str(resampled), mode="r")[:], before)


def test_another_plan_is_refused_by_its_differences(work: Path, model: Path) -> None:
    plan = work / "Balls" / "plan.json"
    text = json.loads(plan.read_text())
    planned = text["configurations"]["3d_fullres"]["networks"]["baseline"]
    planned["reasons"] = {"patch": "said in other words"}
    plan.write_text(json.dumps(text))
    resume(work)
    planned["patch_size"], planned["network"]["features"] = [8, 8, 12], [4, 8, 8]
    plan.write_text(json.dumps(text))
    for options in ({"resume": True}, {"fold": 2}):
        write_splits(work, NAMES[:3], NAMES[3:], NAMES[1:2])
        with pytest.raises(InputError, match=r"patch_size was \[8, 8, 8\], now \[8, 8, 12\]") as caught:
            run(
                work,
                SHORT.model_copy(update={"epochs": 3}) if "resume" in options else SHORT.model_copy(update={"epochs": 2}),
                **options,
            )
        assert "network.features was [2, 4, 4], now [4, 8, 8]" in str(caught.value)


def test_a_fold_whose_training_cases_all_lack_a_label_is_refused(tmp_path: Path, config: TrainingConfig) -> None:
    """A network could call all background this label, as nothing in these cases says that it is not."""
    dataset = make_dataset(tmp_path / "data", cases=3, annotated={"case_2": ["inner"]})
    alone = labels()
    alone[alone == 2] = 0
    save(dataset / "labelsTr" / "case_2.nii.gz", alone)
    options = PlanningOptions(configurations=("3d_fullres",), networks=("baseline",), patch_size=(8, 8, 8))
    plan_and_preprocess(dataset, tmp_path / "work", options, jobs=1)
    write_json(tmp_path / "work" / "data" / "splits.json", [{"train": ["case_2"], "val": ["case_0"]}])
    with pytest.raises(InputError, match="fold 0: none of its training cases has the annotation of outer"):
        train("data", tmp_path / "work", "baseline", config=config, device="cpu")
    assert not (tmp_path / "work" / "data" / "models").exists()
