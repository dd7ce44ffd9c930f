"""Trainings that end by the clock."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.training import TrainingConfig
from trainers import train
from trainers.optimisation.optimiser import learning_rate
from trainers.optimisation.time_limit import is_complete, left_of, share_of_time

LIMITED = TrainingConfig(epochs=10, iterations=4, time_limit=100.0)


def rows(*seconds: float) -> list[dict[str, float]]:
    return [{"seconds": each} for each in seconds]


@given(st.lists(st.floats(0.1, 30.0), min_size=1, max_size=9), st.integers(0, 3))
def test_the_share_rises_to_one_and_the_rest_is_what_is_left(seconds: list[float], iteration: int) -> None:
    share = share_of_time(LIMITED, rows(*seconds), iteration)
    assert 0 < share <= share_of_time(LIMITED, rows(*seconds), iteration + 1) <= 1
    assert left_of(LIMITED, share) == pytest.approx(100.0 * (1 - share))


@pytest.mark.parametrize(
    ("seconds", "complete"),
    [
        ([], False),
        ([20.0] * 4, False),
        ([20.0] * 5, True),
        ([30.0] * 3, True),
        ([90.0], True),
        ([60.0], False),
        ([0.1] * 10, True),
    ],
)
def test_a_training_ends_at_the_epoch_that_comes_nearest_to_its_limit(seconds: list[float], complete: bool) -> None:
    assert is_complete(LIMITED, rows(*seconds)) == complete


def test_without_a_limit_epochs_alone_count() -> None:
    config = LIMITED.model_copy(update={"time_limit": None})
    assert share_of_time(config, rows(1e9)) == 0
    assert [is_complete(config, rows(*[1e9] * epochs)) for epochs in (0, 9, 10)] == [False, False, True]


def test_the_learning_rate_falls_with_the_time_where_that_is_further() -> None:
    assert learning_rate(LIMITED, 4, share_of_time=0.5) == learning_rate(LIMITED, 20)
    assert learning_rate(LIMITED, 20, share_of_time=0.1) == learning_rate(LIMITED, 20)
    assert learning_rate(LIMITED, 4, share_of_time=1.0) == 0


def test_a_training_stops_at_its_limit_and_is_then_complete(
    work: Path, config: TrainingConfig, caplog: pytest.LogCaptureFixture
) -> None:
    limited = config.model_copy(update={"time_limit": 1e-6})
    fold = train("Balls", work, "baseline", config=limited, device="cpu")
    assert (fold / "log.csv").read_text().count("\n") == 2, "a heading and one epoch"
    caplog.set_level("INFO")
    train("Balls", work, "baseline", config=limited, device="cpu", resume=True)
    assert "has completed its 1 epochs" in caplog.text


def test_a_limit_that_is_not_reached_changes_nothing(work: Path, tmp_path: Path, config: TrainingConfig) -> None:
    free = train("Balls", work, "baseline", config=config, device="cpu", tag="free")
    limited = train("Balls", work, "baseline", config=config.model_copy(update={"time_limit": 1e9}), device="cpu", tag="limited")
    name = "weights_final.safetensors"
    assert (free / name).read_bytes() == (limited / name).read_bytes()
