"""A run that is killed at any moment of any stage goes on, and ends with the files that it would have had."""

import itertools
import multiprocessing.sharedctypes
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

from tests.faults.server import CONTEXT
from tests.trainers.pipeline.small_runs import dataset, lasting_files, run
from tests.trainers.test_kills import in_process

KILLS = 30
EACH = 3  # attempts to kill one run
STAGES = (  # modules whose functions begin a stage
    "planners.run",
    "trainers.pipeline.speeds",
    "trainers.pipeline.worker",
    "inference.selection.run",
    "inference.report.run",
    "inference.bundle.export",
    "trainers.pipeline.page",
)
Counts = multiprocessing.sharedctypes.SynchronizedArray


def run_until_call(data: Path, work: Path, stage: str, last: int, calls: "Counts[int]") -> None:
    """Run, count the function calls of each stage, and die at this one (-1: never) as for want of memory: nothing is cleaned up."""
    current = -1

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal current
        module = frame.f_globals.get("__name__")
        if event == "call" and module in STAGES and frame.f_code.co_name != "<module>" and "lambda" not in frame.f_code.co_name:
            current = max(current, STAGES.index(module))
        if current >= 0 and event in ("call", "c_call"):
            calls[current] += 1
            if STAGES[current] == stage and calls[current] == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    run(data, work)
    sys.setprofile(None)


@pytest.mark.thorough
def test_thirty_kills_at_random_moments_of_every_stage(tmp_path: Path) -> None:
    data, random = dataset(tmp_path), np.random.default_rng(0)
    calls = CONTEXT.Array("q", len(STAGES))
    assert in_process(run_until_call, data, tmp_path / "unbroken", "", -1, calls) == 0
    killed = dict.fromkeys(STAGES, 0)
    for number in itertools.count():
        for stage in sorted(random.choice(len(STAGES), EACH, replace=False)):
            last, counts = int(random.integers(1, calls[stage] + 1)), CONTEXT.Array("q", len(STAGES))
            code = in_process(run_until_call, data, tmp_path / f"work_{number}", STAGES[stage], last, counts)
            killed[STAGES[stage]] += code == -signal.SIGKILL  # what goes on may be over before
        if sum(killed.values()) >= KILLS and all(killed.values()):
            break
        assert number < KILLS, f"runs are over too early to be killed: {killed}"
    expected = lasting_files(tmp_path / "unbroken")
    for work in sorted(tmp_path.glob("work_*")):
        assert in_process(run, data, work) == 0
        found = lasting_files(work)
        assert [name for name in expected if found.get(name) != expected[name]] == []
        assert found.keys() == expected.keys(), "what was left half written is tidied up"
