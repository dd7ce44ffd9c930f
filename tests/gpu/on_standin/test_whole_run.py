"""se_run on a GPU: steps are timed, folds are trained, and the schedule is the one for GPUs."""

from pathlib import Path

from configs.folders import DatasetFolder, RunRecords
from configs.training import load_training_config
from tests.gpu.standin.ledger import Ledger
from tests.trainers.pipeline.small_runs import SETTINGS, dataset, run
from trainers.pipeline.schedule import Schedule


def test_a_run_ends_with_a_model(gpu: Ledger, tmp_path: Path) -> None:
    settings = SETTINGS | {"compile": "off"}
    result = run(dataset(tmp_path), tmp_path / "work", devices=("cuda",), preset=None, settings=settings)
    assert not result.failures and result.page.is_file() and gpu.launches > 1000
    schedule = Schedule.read(RunRecords(tmp_path / "work" / "data").schedule)
    assert schedule.settings == load_training_config("default", settings), "not the preset of CPUs"
    assert all(training.seconds for training in schedule.trainings)
    weights = DatasetFolder(tmp_path / "work" / "data").model("3d_fullres", "baseline").fold(0).final_weights
    assert weights.is_file()
