"""The programs that measure preprocessing, at a small size."""

import numpy as np
import pytest

from benchmarks.cost import resampling
from benchmarks.nnunet import preprocessing_speed
from preprocessing.dataset.raw import open_dataset
from tests.preprocessing.datasets import validate

SMALL, LARGER = (12, 14, 16), (18, 15, 20)


def test_resampling_agrees_and_is_measured():
    assert resampling.difference(SMALL, LARGER) < 1e-5
    for task, (make, functions) in resampling.TASKS.items():
        seconds = resampling.seconds_in_turn(task, SMALL, LARGER, rounds=2)
        assert set(seconds) == set(functions) and all(len(taken) == 2 for taken in seconds.values())
        results = [function(make(SMALL), LARGER) for function in functions.values()]
        assert all(result.shape == LARGER for result in results)
        assert np.mean(np.abs(results[0] - results[1]) > 0.01) < 0.05


def test_generated_volumes_are_a_sound_dataset(tmp_path, monkeypatch):
    monkeypatch.setattr(preprocessing_speed, "CT_SHAPE", (60, 50, 40))
    dataset = open_dataset(preprocessing_speed.generate_ct(tmp_path / preprocessing_speed.CT_NAME))
    assert validate(dataset) == [] and len(dataset.cases) == 6


def test_commands_take_turns(tmp_path, monkeypatch):
    """Each writes into a folder of its own; the ratio is the median over pairs."""
    taken = iter([2.0, 8.0, 4.0, 8.0, 1.0, 10.0])
    commands = []

    def run(command, environment):
        commands.append((command[0], dict(environment)))
        wall = next(taken)
        return preprocessing_speed.Seconds(wall, wall / 2)

    monkeypatch.setattr(preprocessing_speed, "_seconds", run)
    (tmp_path / "Dataset007_Toy").mkdir()
    row = preprocessing_speed.compare(tmp_path / "Dataset007_Toy", tmp_path / "bin", pairs=3, jobs=2, work=tmp_path / "work")
    for kind in ("wall", "processor"):
        assert [row[f"{kind}_{measure}"] for measure in ("ratio", "lowest", "highest")] == [4, 2, 10]
    assert [bool(environment) for _, environment in commands] == [False, True] * 3
    with pytest.raises(ValueError, match="DatasetNNN_Name"):
        preprocessing_speed.seconds_of_peer(tmp_path, tmp_path / "Toy", 1, tmp_path)
