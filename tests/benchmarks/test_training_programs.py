"""The programs that compare trainings: what they ask for and how they sum up; nnU-Net itself is not needed."""

import argparse
import sys
from pathlib import Path

import pytest

from benchmarks.nnunet import training_parity, training_speed, training_steps
from benchmarks.nnunet.peer_training import Stepper
from tests.trainers.balls import write_work

PROGRAM = """
import json, sys, time
print("chatter")
print("@@ready", flush=True)
for line in sys.stdin:
    print("@@" + json.dumps({"steps": [0.5] * int(line), "waits": [0.1] * int(line)}), flush=True)
"""


def test_a_stepper_takes_as_many_steps_as_asked() -> None:
    with Stepper([sys.executable, "-c", PROGRAM], {}) as stepper:
        assert stepper.take(3) == {"steps": [0.5] * 3, "waits": [0.1] * 3}
        assert len(stepper.take(1)["steps"]) == 1


def test_a_stepper_that_ends_is_told() -> None:
    with pytest.raises(RuntimeError, match="ended with 3"), Stepper([sys.executable, "-c", "import sys; sys.exit(3)"], {}):
        pass


def test_ratios_are_taken_within_rounds() -> None:
    rounds = [
        {"nnU-Net": {"steps": [2.0 * load], "waits": [0.0]}, "baseline": {"steps": [1.0 * load], "waits": [0.25 * load]}}
        for load in (1, 10, 2)
    ]
    rows = training_speed.summarise(rounds)
    assert [row["ratio"] for row in rows] == [1, 0.5]
    assert rows[1]["data_wait_share"] == 0.25


def test_dice_is_compared_with_nnunets_mean() -> None:
    rows = training_parity.summarise({"nnU-Net": [0.8, 0.9], "baseline": [0.86, 0.86]})
    assert [row["difference"] for row in rows] == pytest.approx([0, 0.01])


def test_our_steps_train_the_planned_network(tmp_path: Path) -> None:
    work = write_work(tmp_path / "work")
    arguments = argparse.Namespace(work=work, dataset="Balls", network="baseline", features=None, workers=0, device="cpu")
    parts = training_steps.make(arguments)
    weights = [parameter.detach().clone() for parameter in parts.learner.network.parameters()]
    seconds, waited = training_steps.take(parts)
    assert 0 < waited < seconds
    assert any((old != new).any() for old, new in zip(weights, parts.learner.network.parameters(), strict=True))
    assert not (work / "Balls" / "models").exists()
