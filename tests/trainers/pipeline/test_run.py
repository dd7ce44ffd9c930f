"""A run from a dataset to a model: complete results, what goes on, what fails alone."""

import json
import re
import shutil
from pathlib import Path
from unittest.mock import patch

import pytest

from configs.errors import InputError
from configs.folders import DatasetFolder, RunRecords
from configs.outputs import held
from inference.bundle.verify import verify_bundle
from inference.prediction.selection import Selection
from planners.options import PlanningOptions
from tests.preprocessing.datasets import image, labels, make_dataset, save
from tests.trainers.pipeline.small_runs import PLANNING, dataset, lasting_files, run
from trainers import train
from trainers.optimisation.checkpoint import CheckpointKeeper
from trainers.pipeline import worker
from trainers.pipeline.run import RunResult
from trainers.pipeline.schedule import Schedule


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, RunResult]:
    """Dataset, WORK and results of a run."""
    folder = tmp_path_factory.mktemp("run")
    data = dataset(folder)
    return data, folder / "work", run(data, folder / "work")


def copied(finished: tuple[Path, Path, RunResult], folder: Path) -> tuple[Path, Path]:
    data, work, _ = finished
    shutil.copytree(work, folder / "work")
    return data, folder / "work"


def test_everything_is_made(finished: tuple[Path, Path, RunResult]) -> None:
    _, work, result = finished
    folder = DatasetFolder(work / "data")
    assert all(folder.model("3d_fullres", "baseline").fold(fold).validation.metrics.is_file() for fold in (0, 1))
    assert result.selection is not None
    assert Selection.read(result.selection).folds == ("0", "1")
    assert [verify_bundle(bundle) and bundle.name for bundle in result.bundles] == ["data_3d_fullres_baseline.zip"]
    assert not result.failures


def test_every_link_of_the_page_leads_to_a_file(finished: tuple[Path, Path, RunResult]) -> None:
    page = finished[2].page
    links = [link for link in re.findall(r'href="([^"#]+)"', page.read_text()) if not link.startswith("data:")]
    assert "scored on the same ones" not in page.read_text() and "--selection" in page.read_text()
    assert {"report.html", "models.html", "bundles/data_3d_fullres_baseline.zip"} <= set(links)
    assert all((page.parent / link).exists() for link in links)


def test_a_second_run_trains_nothing_and_changes_nothing(finished: tuple[Path, Path, RunResult], tmp_path: Path) -> None:
    data, work = copied(finished, tmp_path)
    before = lasting_files(finished[1])
    with patch.object(CheckpointKeeper, "save", side_effect=AssertionError("a finished training goes on")):
        run(data, work)
    after = lasting_files(work)
    assert [name for name in before if after[name] != before[name]] == []
    assert after.keys() == before.keys()


def test_a_bare_second_call_goes_on_with_the_schedule(finished: tuple[Path, Path, RunResult], tmp_path: Path) -> None:
    data, work = copied(finished, tmp_path)
    run(data, work, None, preset=None, settings={}, folds=())
    assert len(Schedule.read(RunRecords(work / "data").schedule).trainings) == 2


def test_other_options_than_those_of_the_schedule_are_refused(finished: tuple[Path, Path, RunResult], tmp_path: Path) -> None:
    data, work = copied(finished, tmp_path)
    with pytest.raises(InputError) as raised:
        run(data, work, folds=(0,), preset="adamw")
    told = [str(fault) for fault in raised.value.faults]
    assert len(told) == 2
    assert all("give --restart" in fault for fault in told)


def test_other_options_of_the_planner_are_refused_too(finished: tuple[Path, Path, RunResult], tmp_path: Path) -> None:
    data, work = copied(finished, tmp_path)
    with pytest.raises(InputError, match=r"option planning: .*patch_size.* differs from"):
        run(data, work, PlanningOptions(gpu_memory=4.0, patch_size=(8, 8, 8)))


def test_a_plan_that_was_made_and_edited_before_is_kept(finished: tuple[Path, Path, RunResult], tmp_path: Path) -> None:
    data, work = copied(finished, tmp_path)
    folder = DatasetFolder(work / "data")
    shutil.rmtree(folder.models_folder)
    RunRecords(folder.path).schedule.unlink()
    folder.plan.write_text(edited := folder.plan.read_text().replace('"batch_size": 2', '"batch_size": 3'))
    run(data, work, None)
    assert folder.plan.read_text() == edited


@pytest.mark.parametrize("restart", [False, True])
def test_a_dataset_that_changed_is_not_trained_as_it_was(
    finished: tuple[Path, Path, RunResult], tmp_path: Path, restart: bool
) -> None:
    data, work = copied(finished, tmp_path)
    data = shutil.copytree(data, tmp_path / "data")
    run(data, work)
    shutil.copy(data / "imagesTr" / "case_0_0000.nii.gz", data / "imagesTr" / "case_9_0000.nii.gz")
    shutil.copy(data / "labelsTr" / "case_0.nii.gz", data / "labelsTr" / "case_9.nii.gz")
    shutil.copy2(data / "imagesTr" / "case_0_0000.nii.gz", data / "imagesTr" / "case_1_0000.nii.gz")
    with pytest.raises(InputError, match=r"2 cases changed since it was prepared, or the plan did: case_1, case_9"):
        run(data, work, None if restart else PLANNING, restart=restart)


def test_labels_that_changed_their_names_are_refused(finished: tuple[Path, Path, RunResult], tmp_path: Path) -> None:
    data, work = copied(finished, tmp_path)
    data = shutil.copytree(data, tmp_path / "data")
    description = data / "dataset.json"
    description.write_text(description.read_text().replace('"background"', '"Background"', 1))
    run(data, work)
    described = json.loads(description.read_text())
    first = next(name for name, value in described["labels"].items() if value != 0)
    described["labels"]["other"] = described["labels"].pop(first)
    description.write_text(json.dumps(described))
    with pytest.raises(InputError, match=r"plan.json: dataset.json in .* changed since it was planned"):
        run(data, work)


def test_prepared_cases_of_another_plan_are_refused(finished: tuple[Path, Path, RunResult], tmp_path: Path) -> None:
    data, work = copied(finished, tmp_path)
    plan = DatasetFolder(work / "data").plan
    changed = json.loads(plan.read_text())
    changed["configurations"]["3d_fullres"]["spacing"] = [3.0, 3.0, 3.0]
    plan.write_text(json.dumps(changed))
    with pytest.raises(InputError, match=r"4 cases changed since it was prepared, or the plan did: .* and 1 more"):
        run(data, work)


def test_two_processes_do_not_work_on_one_dataset_or_fold(finished: tuple[Path, Path, RunResult], tmp_path: Path) -> None:
    data, work = copied(finished, tmp_path)
    folder = DatasetFolder(work / "data")
    with held(folder.path), pytest.raises(InputError, match="another process is working in it"):
        run(data, work)
    with held(folder.model("3d_fullres", "baseline").fold(0).path), pytest.raises(InputError, match="another process"):
        train("data", work, "baseline", validate_only=True, device="cpu")


def test_restart_trains_again_with_a_new_schedule(finished: tuple[Path, Path, RunResult], tmp_path: Path) -> None:
    data, work = copied(finished, tmp_path)
    weights = DatasetFolder(work / "data").model("3d_fullres", "baseline").fold(0).final_weights
    before = weights.read_bytes()
    run(
        data,
        work,
        restart=True,
        folds=(0, 1),
        settings={"seed": 1, "epochs": 1, "iterations": 1, "workers": 0, "base_features": 2},
    )
    assert weights.read_bytes() != before


def test_a_fold_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    def failing(*given: object, **options: object) -> Path:
        if given[4] == 0:
            raise RuntimeError("the loss is not finite")
        return train(*given, **options)  # type: ignore[arg-type]

    data = dataset(tmp_path)
    with patch.object(worker, "train", failing):
        result = run(data, tmp_path / "work")
    assert result.failures == {"3d_fullres_baseline, fold 0": "RuntimeError: the loss is not finite"}
    assert result.selection is not None
    assert Selection.read(result.selection).folds == ("1",)
    assert "fold 0 failed and is left out. RuntimeError: the loss is not finite" in result.page.read_text()
    assert not run(data, tmp_path / "work").failures, "the next run trains the missing fold"


def test_a_run_in_which_every_fold_fails_says_why(tmp_path: Path) -> None:
    with (
        patch.object(worker, "train", side_effect=RuntimeError("the disk is full")),
        pytest.raises(InputError, match="the disk is full"),
    ):
        run(dataset(tmp_path), tmp_path / "work")


def test_fold_all_alone_is_bundled_without_a_selection(tmp_path: Path) -> None:
    result = run(dataset(tmp_path), tmp_path / "work", folds=("all",))
    assert result.selection is None
    assert len(result.bundles) == 1
    page = result.page.read_text()
    assert "scored on the same ones" in page and f"-m {result.models[0].resolve()}" in page


def test_folds_are_trained_side_by_side_with_the_same_weights(finished: tuple[Path, Path, RunResult], tmp_path: Path) -> None:
    data, work, _ = finished
    run(data, tmp_path / "work", devices=("cpu", "cpu"))
    for fold in (0, 1):
        ours, theirs = (
            DatasetFolder(one / "data").model("3d_fullres", "baseline").fold(fold) for one in (tmp_path / "work", work)
        )
        assert ours.final_weights.read_bytes() == theirs.final_weights.read_bytes()


def test_the_reason_of_a_process_that_fails_is_told(finished: tuple[Path, Path, RunResult], tmp_path: Path) -> None:
    data, work = copied(finished, tmp_path)
    folder = DatasetFolder(work / "data")
    shutil.rmtree(folder.model("3d_fullres", "baseline").fold(0).path)
    (folder.preprocessed / "3d_fullres" / "case_0.b2nd").write_bytes(b"damaged")
    result = run(data, work, devices=("cpu", "cpu"))
    assert list(result.failures) == ["3d_fullres_baseline, fold 0"]
    assert "case_0.b2nd" in result.failures["3d_fullres_baseline, fold 0"]


@pytest.mark.thorough
@pytest.mark.parametrize("devices", [("cpu",), ("cpu", "cpu")])
def test_a_cascade_is_trained_after_all_folds_of_its_first_network(tmp_path: Path, devices: tuple[str, ...]) -> None:
    data, shape, both = make_dataset(tmp_path / "data", cases=2), (48, 48, 48), ("3d_lowres", "3d_cascade_fullres")
    for number in range(2):
        save(data / f"imagesTr/case_{number}_0000.nii.gz", image(number, shape))
        save(data / f"labelsTr/case_{number}.nii.gz", labels(shape))
    planning = PlanningOptions(
        networks=("baseline",), configurations=(*both, "3d_fullres"), patch_size=(16, 16, 16), gpu_memory=0.02
    )
    result = run(data, tmp_path / "work", planning, configurations=both, devices=devices)
    assert not result.failures
    assert DatasetFolder(tmp_path / "work" / "data").model("3d_cascade_fullres", "baseline").fold(1).final_weights.is_file()
