"""Whatever fails, where and how: the case is named, the others are done, nothing is half-written, and nobody waits for ever."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from inference import PredictionOptions, Predictor, predict_cases
from inference.prediction.outputs import plan_outputs
from inference.prediction.read_compute_write import WAIT, StageEndedError, Stages, run_stages
from tests.inference.models import threshold_model, write_model

ROOT = Path(__file__).parents[3]
PATIENCE = 30  # seconds, after which a test that hangs fails


def within_time(work: Callable[[], Any]) -> Any:
    """The result (or the exception) of a call, which must not take for ever."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - handed on
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "it hangs"
    return outcome[0]


def failing(stage: str, error: BaseException, at: str = "b") -> Stages[str, str]:
    """Stages of which one raises at a case."""

    def step(name: str) -> None:
        if name == at:
            raise error

    def read(case: str) -> str:
        step(case if stage == "read" else "")
        return case

    def compute(case: str, value: str) -> str:
        step(case if stage == "compute" else "")
        return 2 * value

    def write(case: str, result: str) -> None:
        step(case if stage == "write" else "")
        written.append(result)

    written: list[str] = []
    stages = Stages(read, compute, write)
    object.__setattr__(stages, "written", written)
    return stages


@pytest.mark.parametrize("stage", ["read", "compute", "write"])
@pytest.mark.parametrize("at", ["a", "c", "e"])
@pytest.mark.parametrize("ahead", [1, 3])
def test_an_exception_in_any_stage_is_one_case(stage: str, at: str, ahead: int) -> None:
    stages = failing(stage, MemoryError("no more"), at)
    done: list[None] = []
    failures = within_time(lambda: run_stages("abcde", stages, lambda: done.append(None), ahead))
    assert list(failures) == [at] and str(failures[at]) == "no more"
    assert stages.written == [2 * case for case in "abcde" if case != at]  # type: ignore[attr-defined]
    assert len(done) == 5


@pytest.mark.parametrize("stage", ["read", "write"])
def test_a_thread_that_is_ended_is_an_error_and_no_endless_wait(stage: str) -> None:
    outcome = within_time(lambda: run_stages("abcde", failing(stage, SystemExit())))
    assert isinstance(outcome, StageEndedError) and {"read": "reading", "write": "writing"}[stage] in str(outcome)


def test_an_interrupt_finishes_what_is_being_written() -> None:
    begun, ended = threading.Event(), threading.Event()

    def write(case: str, result: str) -> None:
        begun.set()
        time.sleep(0.3)
        ended.set()

    def compute(case: str, value: str) -> str:
        if case == "b":
            begun.wait(PATIENCE)
            raise KeyboardInterrupt
        return value

    outcome = within_time(lambda: run_stages("abcde", Stages(lambda case: case, compute, write)))
    assert isinstance(outcome, KeyboardInterrupt) and ended.is_set()


def test_an_interrupt_waits_for_the_case_that_is_being_read() -> None:
    """Python aborts if it ends while a thread is inside a library, and the exit code would be another one."""
    begun, ended = threading.Event(), threading.Event()

    def read(case: str) -> str:
        if case == "b":
            begun.set()
            time.sleep(3 * WAIT)  # longer than the writer takes to end
            ended.set()
        return case

    def compute(case: str, value: str) -> str:
        begun.wait(PATIENCE)
        raise KeyboardInterrupt

    outcome = within_time(lambda: run_stages("abcde", Stages(read, compute, lambda case, result: None)))
    assert isinstance(outcome, KeyboardInterrupt) and ended.is_set()


def test_memory_is_bounded_however_slow_the_writing_is() -> None:
    alive, most = set[str](), [0]

    def read(case: str) -> str:
        alive.add(case)
        most[0] = max(most[0], len(alive))
        return case

    def write(case: str, result: str) -> None:
        time.sleep(0.02)
        alive.discard(case)

    cases = [f"case{index}" for index in range(30)]
    assert within_time(lambda: run_stages(cases, Stages(read, lambda _, value: value, write))) == {}
    assert most[0] <= 6  # one read ahead, one waiting, one computed, one waiting, one written, one being read


def test_nothing_to_do() -> None:
    assert within_time(lambda: run_stages([], failing("read", ValueError()))) == {}


def write_images(folder: Path, cases: str) -> dict[str, tuple[Path, ...]]:
    folder.mkdir(exist_ok=True)
    files = {}
    for case in cases:
        values = np.random.default_rng(0).random((18, 21, 13), np.float32)
        nib.save(nib.Nifti1Image(values, np.eye(4)), folder / f"{case}_0000.nii.gz")
        files[case] = (folder / f"{case}_0000.nii.gz",)
    return files


def test_a_full_disk_is_said_for_every_case_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(image: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    cases = write_images(tmp_path / "in", "abc")
    monkeypatch.setattr(nib, "save", full)
    predictor = Predictor(threshold_model(), "cpu", PredictionOptions(mirror=False, scales=(1.0,)))
    failures = within_time(lambda: predict_cases(predictor, cases, plan_outputs(cases, tmp_path / "out")))
    assert list(failures) == ["a", "b", "c"] and all("No space left" in str(error) for error in failures.values())
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "codes"), [("SIGTERM", {130}), ("SIGKILL", {-9})])
def test_a_command_that_is_killed_leaves_whole_files_only(tmp_path: Path, kind: str, codes: set[int]) -> None:
    model = write_model(tmp_path / "model")
    write_images(tmp_path / "in", "abcdefghijklmnopqrstuvwxyz")
    call = "import sys; from inference.prediction.cli import main; sys.exit(main())"
    words = ["-i", tmp_path / "in", "-o", tmp_path / "out", "-m", model, "--device", "cpu", "--step-size", "0.2", "--quiet"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", call, *map(str, words)], env=environment)
    deadline = time.monotonic() + 2 * PATIENCE
    while not list((tmp_path / "out").glob("[a-z]*.nii.gz")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(getattr(signal, kind))
    assert process.wait(PATIENCE) in codes
    written = list((tmp_path / "out").glob("[a-z]*.nii.gz"))
    assert 0 < len(written) < 26
    for path in written:
        assert np.asanyarray(nib.load(path).dataobj).shape == (18, 21, 13)
    if kind == "SIGTERM":
        assert not list((tmp_path / "out").glob(".partial*"))
