"""One case that fails or whose process dies does not stop the others, and is named."""

import errno
import logging
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from configs.errors import Fault, InputError
from configs.progress import Silent
from preprocessing.parallel.for_each_case import for_each_case
from preprocessing.parallel.markers import Watch, marking
from preprocessing.parallel.memory import available_bytes, choose_jobs
from preprocessing.parallel.messages import collecting_messages

ROOT = Path(__file__).parents[3]
CASES = dict(zip("abcdefgh", range(8), strict=True))
killing = pytest.mark.filterwarnings("ignore:A worker stopped")  # joblib warns of the killed worker as well


def collect(function, cases=CASES, jobs=2, **settings):
    """What was yielded, and the error at the end."""
    results = {}
    try:
        for identifier, value in for_each_case(function, cases, jobs, Silent(), "Testing", **settings):
            results[identifier] = value
    except (InputError, RuntimeError) as error:
        return results, error
    return results, None


def double(identifier, value):
    return 2 * value


def fail(identifier, value, error, at="c"):
    if identifier in at:
        raise error
    return 2 * value


def die(identifier, value, folder, times):
    """Kill the process at case `c`, the first `times` times."""
    if identifier == "c" and len(list(folder.iterdir())) < times:
        (folder / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * value


@pytest.mark.parametrize("jobs", [1, 2])
def test_all_cases_are_done(jobs):
    assert collect(double, jobs=jobs) == ({identifier: 2 * value for identifier, value in CASES.items()}, None)
    assert collect(double, {}, jobs=jobs) == ({}, None)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failing_case_is_named_with_its_reason_and_the_others_are_done(jobs):
    results, error = collect(partial(fail, error=ValueError("too\nsmall")), jobs=jobs)
    assert set(results) == set("abdefgh")
    assert type(error) is RuntimeError
    assert str(error) == "1 of 8 cases failed: case `c`: ValueError: too small. All others are done; run again to complete them"


@pytest.mark.parametrize("jobs", [1, 2])
def test_faults_of_all_cases_are_listed(jobs):
    results, error = collect(partial(fail, error=InputError(Fault("x", "y", "z")), at="cf"), jobs=jobs)
    assert isinstance(error, InputError) and set(results) == set("abdegh")
    assert sorted(fault.where for fault in error.faults) == ["case `c`, x", "case `f`, x"]


class AwkwardError(Exception):
    """An error that cannot be sent between processes."""

    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def raise_awkward(identifier, value):
    raise AwkwardError("one", "two")


def test_errors_that_cannot_be_pickled_are_reported():
    _, error = collect(raise_awkward, {"a": 1, "b": 2})
    assert "case `a`: AwkwardError: one two" in str(error)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_full_disk_stops_the_work(jobs):
    cases = {str(number): number for number in range(1000)}
    full = OSError(errno.ENOSPC, "No space left on device")
    results, error = collect(partial(fail, error=full, at=["3"]), cases, jobs=jobs)
    assert len(results) < 999
    assert (
        f"the disk is full: case `3`: OSError: [Errno 28] No space left on device. {len(results)} of 1000 cases are done"
        in str(error)
    )


@killing
def test_a_case_whose_process_dies_once_is_tried_again(tmp_path, caplog):
    results, error = collect(partial(die, folder=tmp_path, times=1))
    assert error is None and results == {identifier: 2 * value for identifier, value in CASES.items()}
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert (
        "a worker process was killed. Cases in flight, which will be tried again alone:" in warning and "`c` (process " in warning
    )


@killing
def test_a_case_whose_process_dies_again_is_named_and_the_others_are_done(tmp_path):
    results, error = collect(partial(die, folder=tmp_path, times=2))
    assert set(results) == set("abdefgh")
    assert "1 of 8 cases failed: case `c`: the worker process was killed twice, the second time alone: `c` (process" in str(error)
    assert "SIGKILL" in str(error) and "All others are done" in str(error)
    assert len(list(tmp_path.iterdir())) == 2


WORK_AND_WAIT = """
import os, sys, time
from configs.progress import Silent
from preprocessing.parallel.for_each_case import for_each_case

def wait(identifier, value):
    open(os.path.join(sys.argv[1], str(os.getpid())), "w").close()
    time.sleep(120)

list(for_each_case(wait, {"a": 1, "b": 2}, 2, Silent(), "Testing"))
"""


def test_workers_end_when_the_process_they_work_for_was_killed(tmp_path):
    """Otherwise they keep their memory for minutes, which a cluster's next job lacks."""
    process = subprocess.Popen([sys.executable, "-c", WORK_AND_WAIT, tmp_path], env=os.environ | {"PYTHONPATH": str(ROOT)})
    workers = _within(60, lambda: [int(path.name) for path in tmp_path.iterdir()], lambda found: len(found) == 2)
    process.kill()
    process.wait()
    assert _within(15, lambda: [worker for worker in workers if psutil.pid_exists(worker)], lambda left: not left) == []


def _within(seconds, find, is_enough):
    end = time.monotonic() + seconds
    while not is_enough(found := find()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def is_file(identifier, value):
    return Path(value).is_file()


def test_relative_paths_are_those_of_the_folder_from_which_the_work_is_started(tmp_path, monkeypatch):
    for name in ("first", "second"):  # workers of the first folder are used again in the second
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).touch()
        monkeypatch.chdir(folder)
        assert collect(is_file, dict.fromkeys(CASES, name)) == (dict.fromkeys(CASES, True), None)


def test_a_watch_knows_the_cases_in_flight_and_their_memory(tmp_path):
    with Watch(tmp_path) as watch:
        assert watch.in_flight() == []
        with marking(tmp_path, "a/ü"):
            (case,) = _once(lambda: [found for found in watch.in_flight() if found.memory])
            assert (case.identifier, case.process) == ("a/ü", os.getpid())
            assert 1e6 < case.memory < psutil.virtual_memory().total and case.available > 0
            assert f"`a/ü` (process {os.getpid()}, at " in str(case)
        assert watch.in_flight() == []
        (tmp_path / "half.case").write_text('{"identifier"')
        assert watch.in_flight() == []
        watch.clear()
    assert list(tmp_path.iterdir()) == []


def _once(find):
    while not (found := find()):
        pass
    return found


def test_jobs_fit_into_memory(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("preprocessing.parallel.memory.joblib.cpu_count", lambda: 16)
    assert choose_jobs(None, 1000, "Testing") <= 16
    caplog.clear()
    quarter = int(available_bytes() / 4)
    assert 1 <= choose_jobs(None, quarter, "Testing") <= 3
    assert "processes instead of 16: the largest case takes about" in caplog.text
    assert choose_jobs(12, quarter, "Testing") == 12
    assert "--jobs 12 may be too many" in caplog.text
    assert choose_jobs(None, 10**15, "Testing") == 1


def test_a_containers_limit_counts(tmp_path):
    assert available_bytes(tmp_path) == pytest.approx(psutil.virtual_memory().available, rel=0.3)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 100000\n")
    assert available_bytes(tmp_path) == 400_000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes(tmp_path) > 1_000_000


def test_cluster_that_is_not_there(monkeypatch):
    pytest.importorskip("distributed", reason="distributed is not installed")
    monkeypatch.setattr("preprocessing.parallel.cluster._SECONDS_TO_CONNECT", 0.3)
    with pytest.raises(InputError, match=r"--scheduler tcp://127.0.0.1:1: the Dask scheduler cannot be reached"):
        list(for_each_case(double, CASES, 1, Silent(), "Testing", scheduler="tcp://127.0.0.1:1"))


def test_without_the_package_the_remedy_is_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(InputError, match=r"`distributed` is not installed. Run pip install 'se-unet\[dask\]'"):
        list(for_each_case(double, CASES, 1, Silent(), "Testing", scheduler="tcp://127.0.0.1:1"))


def warn(identifier, value):
    logging.getLogger("a.logger").warning("case `%s` is odd", identifier)
    return value


@pytest.mark.parametrize("jobs", [1, 2])
def test_warnings_of_workers_reach_the_log_once(jobs, caplog):
    assert collect(warn, jobs=jobs)[1] is None
    said = [(record.name, record.getMessage()) for record in caplog.records]
    assert sorted(said) == [("a.logger", f"case `{identifier}` is odd") for identifier in sorted(CASES)]


def test_a_warning_is_collected_by_one_case_of_a_process():
    """Workers of a cluster may have several threads with a case each."""
    with collecting_messages() as outer, collecting_messages() as inner:
        warn("a", 1)
    assert [message.text for message in outer + inner] == ["case `a` is odd"]


GROW = """
import sys, time
import numpy as np
from configs.progress import Silent
from preprocessing.parallel.for_each_case import for_each_case

def grow(identifier, value):
    sys.__dict__.setdefault("kept", []).append(np.ones(50_000_000))  # more than joblib lets a worker grow
    time.sleep(1.1)  # joblib looks once a second
    return identifier

print(len(list(for_each_case(grow, dict.fromkeys("abcdef"), 2, Silent(), "Growing"))))
"""


def test_workers_that_grow_are_replaced_also_where_warnings_are_errors():
    """joblib warns of it in the thread that hands out the cases: as an error, this ended the thread, and the run waited forever."""
    pytest.importorskip("psutil", reason="without psutil, joblib does not measure its workers")
    words = [sys.executable, "-W", "error::UserWarning", "-c", GROW]
    done = subprocess.run(
        words, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stdout == "6\n" and "A worker stopped" not in done.stderr
