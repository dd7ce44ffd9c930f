"""se_run as a user meets it: exit codes, output, SLURM scripts, signals, clusters."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from configs.folders import DatasetFolder, RunRecords
from planners import plan_and_preprocess
from tests.preprocessing.clusters import local_cluster
from tests.trainers.pipeline.small_runs import PLANNING, dataset, run
from trainers.pipeline.cli import main
from trainers.pipeline.jobs import array_script
from trainers.pipeline.schedule import Schedule, Training

TINY = ["--preset", "quick", "--set", "iterations=2", "validation_iterations=1", "workers=0", "base_features=2", "batch_size=1"]


@pytest.fixture
def planned(tmp_path: Path) -> tuple[Path, Path]:
    """A tiny dataset with a plan, and WORK."""
    data = dataset(tmp_path)
    plan_and_preprocess(data, tmp_path / "work", PLANNING, jobs=1)
    return data, tmp_path / "work"


def command(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["se_run", *map(str, words)])
    return main()


def test_a_run_ends_with_what_to_do_next(
    planned: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    data, work = planned
    caplog.set_level("INFO")
    code = command(monkeypatch, data, "--work", work, *TINY, "epochs=1", "--folds", "0", "--devices", "cpu")
    printed = capsys.readouterr()
    assert code == 0
    for told in ("index.html", "se_predict -i IMAGES -o OUTPUT --selection", "bundles/data_3d_fullres_baseline.zip"):
        assert told in printed.out
    assert "less than a full training: 2 of the 250,000 steps" in caplog.text
    assert list((work / "data" / "logs").glob("se_run_*.log"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--hours", "0"], "--hours 0: the time must be above 0"),
        (["--hours", "1", "--print-jobs"], "speed of the cluster's machines"),
        (["--set", "epochs"], "not in the form KEY=VALUE"),
        (["--folds", "one"], "--folds one: the folds are 0 to 3"),
        (["--devices", "abacus"], "device `abacus`"),
        (["--networks", "resnet"], "network `resnet`"),
        (["--preset", "slow"], "slow"),
    ],
)
def test_wrong_words_are_told_in_one_line(
    planned: tuple[Path, Path],
    words: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, work = planned
    assert command(monkeypatch, data, "--work", work, *words) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  - ")]
    assert len(lines) == 1
    assert told in lines[0]
    assert not RunRecords(work / "data").schedule.exists()


def test_a_folder_that_is_no_dataset_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, tmp_path / "nowhere", "--work", tmp_path / "work") == 2
    assert "nowhere" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_the_slurm_script_trains_every_fold_and_the_run_is_completed_after_it(
    planned: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, work = planned
    assert command(monkeypatch, data, "--work", work, *TINY, "epochs=1", "--folds", "0", "1", "--print-jobs") == 0
    script = capsys.readouterr().out
    assert "#SBATCH --array=0-1" in script
    assert "afterany" in script
    tools = work / "bin"
    tools.mkdir()
    (tools / "se_train").write_text(f'#!/bin/bash\nexec {sys.executable} -m trainers.cli "$@" --device cpu\n')
    (tools / "se_train").chmod(0o755)
    for task, code in ((0, 0), (1, 0), (2, 2)):
        variables = {"SLURM_ARRAY_TASK_ID": str(task), "PATH": f"{tools}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        variables |= {"PYTHONPATH": str(Path(__file__).parents[3])}
        done = subprocess.run(["bash"], input=script, text=True, env=os.environ | variables, capture_output=True)
        assert done.returncode == code, done.stderr
    folder = DatasetFolder(work / "data")
    weights = [folder.model("3d_fullres", "baseline").fold(fold).final_weights for fold in (0, 1)]
    before = [file.stat().st_mtime_ns for file in weights]
    assert command(monkeypatch, data, "--work", work, "--devices", "cpu") == 0
    assert [file.stat().st_mtime_ns for file in weights] == before, "the run takes the folds that the cluster trained"
    assert RunRecords(folder.path).page.is_file()


def test_the_slurm_script_passes_the_warning_on_and_asks_for_another_turn(tmp_path: Path) -> None:
    training = Training(configuration="3d_fullres", network="se", fold=0)
    script = array_script(DatasetFolder(tmp_path / "my data"), [training], ["se_run", "my data"])
    stubs = {"se_train": "trap 'exit 138' USR1; echo ready; while true; do sleep 0.05; done", "scontrol": 'echo "$@"'}
    for name, text in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    variables = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_JOB_ID": "7", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, text=True, env=os.environ | variables) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.communicate(timeout=120)[0] == "requeue 7_0\n"
    assert process.returncode == 138


@pytest.mark.slow
@pytest.mark.parametrize(("number", "devices"), [(signal.SIGTERM, ["cpu"]), (signal.SIGINT, ["cpu", "cpu"])])
def test_a_signal_saves_the_trainings_and_the_run_goes_on(
    planned: tuple[Path, Path], number: signal.Signals, devices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, work = planned
    source = "import sys; from trainers.pipeline.cli import main; sys.argv[0] = 'se_run'; sys.exit(main())"
    words = [data, "--work", work, *TINY, "epochs=40", "--folds", "0", "1", "--devices", *devices]
    line = [sys.executable, "-c", source, *map(str, words)]
    model = DatasetFolder(work / "data").model("3d_fullres", "baseline")
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        deadline = time.monotonic() + 60
        logs = [model.fold(fold).records.log for fold in range(len(devices))]
        while not all(log.exists() for log in logs) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(number)
        told = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + number
    assert f"{number.name} received" in told
    assert "failed" not in told
    trained = [fold for fold in (0, 1) if model.fold(fold).checkpoint.is_file()]
    assert trained == list(range(len(devices)))
    assert not model.fold(0).final_weights.exists()
    assert command(monkeypatch, data, "--work", work, "--devices", "cpu") == 0
    assert model.fold(1).final_weights.exists()


@pytest.mark.slow
def test_a_cluster_trains_the_folds(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    with local_cluster(2) as scheduler:
        result = run(data, tmp_path / "work", devices=(), scheduler=scheduler)
    assert not result.failures
    assert len(Schedule.read(RunRecords(tmp_path / "work" / "data").schedule).trainings) == 2
    assert result.selection is not None
