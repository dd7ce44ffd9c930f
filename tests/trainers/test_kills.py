"""A training that is killed at any moment goes on and ends with the weights that it would have had."""

import multiprocessing.sharedctypes
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from configs.folders import FoldFolder
from configs.training import TrainingConfig
from tests.faults.server import CONTEXT
from tests.trainers.balls import write_work
from trainers import train
from trainers.monitoring.history import History

CONFIG = TrainingConfig(epochs=5, iterations=3, validation_iterations=1, workers=0, learning_rate=0.02, momentum=0.9)
KILLS = 10


def run(work: Path, resume: bool) -> FoldFolder:
    """The training, as the command calls it, without pictures: drawing takes longer than all the rest."""
    torch.set_num_threads(1)
    with patch.object(History, "write_picture", lambda history, path: path.write_bytes(b"")):
        return FoldFolder(train("Balls", work, "baseline", config=CONFIG, device="cpu", resume=resume))


def run_until_call(work: Path, last: int, calls: "multiprocessing.sharedctypes.Synchronized[int]") -> None:
    """Run, count the function calls, and die at this one (-1: never) as for want of memory: nothing is cleaned up."""

    def count(frame: FrameType, event: str, argument: object) -> None:
        if event in ("call", "c_call"):
            calls.value += 1
            if calls.value == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    run(work, resume=True)
    sys.setprofile(None)


def run_until_write(work: Path, epoch: int, written: float) -> None:
    """Die when this share of this epoch's checkpoint is written; with the whole of it, before it gets its name."""
    write = torch.save
    count = iter(range(1, 10**6))

    def write_part(content: object, path: Path) -> None:
        write(content, path)
        if next(count) == epoch:
            with path.open("r+b") as file:
                file.truncate(int(path.stat().st_size * written))
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = write_part
    run(work, resume=True)


def in_process(target: object, *arguments: object) -> int | None:
    """Run in a process of its own. Returns its exit code, negative for a signal."""
    process = CONTEXT.Process(target=target, args=arguments)  # type: ignore[attr-defined]
    process.start()
    process.join(120)
    code: int | None = process.exitcode
    process.close()
    return code


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[FoldFolder, int]:
    """A training that nothing breaks, and how many function calls it takes."""
    work = write_work(tmp_path_factory.mktemp("unbroken") / "work")
    calls = CONTEXT.Value("q", 0)
    assert in_process(run_until_call, work, -1, calls) == 0
    return FoldFolder(work / "Balls" / "models" / "3d_fullres_baseline" / "fold_0"), calls.value


def assert_as_unbroken(work: Path, unbroken: FoldFolder) -> None:
    fold = FoldFolder(work / "Balls" / "models" / "3d_fullres_baseline" / "fold_0")
    for ours, theirs in ((fold.final_weights, unbroken.final_weights), (fold.weights("best"), unbroken.weights("best"))):
        found, expected = load_file(ours), load_file(theirs)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)
    found_log, expected_log = (
        pd.read_csv(folder.records.log).drop(columns=["seconds", "data_wait_share", "peak_memory"]) for folder in (fold, unbroken)
    )
    pd.testing.assert_frame_equal(found_log, expected_log)
    assert not list(fold.path.glob(".partial-*")), "what was left half written is tidied up"


@pytest.mark.slow
def test_ten_kills_at_random_moments(tmp_path: Path, unbroken: tuple[FoldFolder, int]) -> None:
    fold, calls = unbroken
    work = write_work(tmp_path / "work")
    random = np.random.default_rng(0)
    killed = 0
    for _ in range(KILLS):
        last = int(random.integers(1, calls // 2))
        killed += in_process(run_until_call, work, last, CONTEXT.Value("q", 0)) == -signal.SIGKILL
    assert killed >= KILLS // 2, "the training was over too early to be broken off"
    assert in_process(run, work, True) == 0
    assert_as_unbroken(work, fold)


@pytest.mark.slow
@pytest.mark.parametrize(("epoch", "written"), [(1, 0.5), (3, 0.7), (5, 1.0)])
def test_a_kill_while_a_checkpoint_is_written(
    tmp_path: Path, unbroken: tuple[FoldFolder, int], epoch: int, written: float
) -> None:
    work = write_work(tmp_path / "work")
    assert in_process(run_until_write, work, epoch, written) == -signal.SIGKILL
    assert in_process(run, work, True) == 0
    assert_as_unbroken(work, unbroken[0])
