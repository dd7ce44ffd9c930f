"""How long a training will take is told before it starts, and nothing else changes."""

from pathlib import Path

import pytest

from configs.training import TrainingConfig
from trainers import run as trainers_run
from trainers import train

WEIGHTS = "weights_final.safetensors"


def test_the_duration_is_told_and_leaves_no_trace(
    work: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    silent = train("Balls", work, "baseline", config=config, device="cpu", tag="silent")
    assert "this will take" not in caplog.text, "a short training is not worth a forecast"
    monkeypatch.setattr(trainers_run, "WORTH_TELLING", 1)
    caplog.set_level("INFO")
    told = train("Balls", work, "baseline", config=config, device="cpu", tag="told")
    assert "this will take at least about" in caplog.text
    assert "12 steps of" in caplog.text
    assert (told / WEIGHTS).read_bytes() == (silent / WEIGHTS).read_bytes()


@pytest.mark.parametrize("setting", [{"time_limit": 60.0}, {"loss_class": "tests.trainers.own_parts.sound:Loss"}])
def test_what_ends_by_the_clock_or_is_not_ours_is_not_tried(
    work: Path,
    config: TrainingConfig,
    setting: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(trainers_run, "WORTH_TELLING", 1)
    caplog.set_level("INFO")
    train("Balls", work, "baseline", config=config.model_copy(update=setting), device="cpu")
    assert "this will take" not in caplog.text


def test_a_long_training_names_quicker_ways(
    work: Path, config: TrainingConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trainers_run, "WORTH_TELLING", 1)
    monkeypatch.setattr("trainers.monitoring.forecast._LONG", 0.0)
    caplog.set_level("INFO")
    train("Balls", work, "baseline", config=config, device="cpu")
    assert "Quicker: --preset quick, fewer --epochs, or se_run --hours H" in caplog.text
