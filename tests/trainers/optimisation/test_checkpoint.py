"""Checkpoints: everything comes back to the bit, and nothing is unpickled that could run."""

import math
import os
import random
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from configs.errors import InputError
from trainers.optimisation.checkpoint import CheckpointKeeper, TrainingState, epochs_done, random_states, restore_random_states
from trainers.optimisation.precision import Precision


def make(path: Path, width: int = 3, seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer, CheckpointKeeper]:
    torch.manual_seed(seed)
    network = nn.Linear(4, width)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.randn(5, 4)).square().sum().backward()
    optimiser.step()
    return network, optimiser, CheckpointKeeper(path, network, optimiser, Precision(torch.device("cpu")))


def test_everything_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    network, optimiser, keeper = make(path)
    state = TrainingState(3, [0.5, math.nan], 0.7, {"liver": 0.6}, 0.8, [{"epoch": 1, "validation_loss": math.nan}])
    keeper.save(state)
    expected = torch.rand(3), np.random.rand(3), random.random()
    other, other_optimiser, other_keeper = make(path, seed=1)
    loaded = other_keeper.load()
    assert repr(loaded) == repr(state)
    for ours, theirs in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert torch.equal(optimiser.state[ours]["momentum_buffer"], other_optimiser.state[theirs]["momentum_buffer"])
    assert torch.equal(torch.rand(3), expected[0])
    np.testing.assert_array_equal(np.random.rand(3), expected[1])
    assert random.random() == expected[2]
    assert epochs_done(path) == 3


def test_a_full_disk_is_said_and_the_old_checkpoint_stays(tmp_path: Path) -> None:
    """PyTorch says `unexpected pos 18240 vs 18136` of it."""
    path = tmp_path / "checkpoint.pt"
    keeper = make(path)[2]
    keeper.save(TrainingState(1))
    keeper = make(path, width=50_000)[2]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match=r"\[Errno 27\] File too large: '.*checkpoint.pt'"):
            keeper.save(TrainingState(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert epochs_done(path) == 1 and [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_gaussian_draws_half_used_come_back() -> None:
    np.random.standard_normal()
    random.gauss(0, 1)
    states = random_states()
    expected = np.random.standard_normal(3).tolist(), random.gauss(0, 1)
    restore_random_states(states)
    assert (np.random.standard_normal(3).tolist(), random.gauss(0, 1)) == expected


class Exploit:
    """An object that runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch exploited",)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "state": Exploit()}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="cannot be read"):
        make(tmp_path / "checkpoint.pt")[2].load()
    assert not (tmp_path / "exploited").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_a_damaged_checkpoint_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be read.*--restart"):
        make(tmp_path / "checkpoint.pt")[2].load()


def test_a_truncated_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    make(path)[2].save(TrainingState())
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError, match="cannot be read"):
        epochs_done(path)


def test_a_checkpoint_of_another_network_is_a_clear_error(tmp_path: Path) -> None:
    make(tmp_path / "checkpoint.pt")[2].save(TrainingState())
    with pytest.raises(InputError, match="another network or optimiser"):
        make(tmp_path / "checkpoint.pt", width=7)[2].load()


def test_the_former_checkpoint_stays_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    keeper = make(path)[2]
    keeper.save(TrainingState(epoch=1))

    def fail(content: object, file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="no space"):
        keeper.save(TrainingState(epoch=2))
    assert epochs_done(path) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
