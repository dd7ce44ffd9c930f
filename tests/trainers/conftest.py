"""What the tests of training share."""

from pathlib import Path

import pytest

from configs.training import TrainingConfig
from tests.trainers.balls import write_work


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A WORK folder with the dataset `Balls`."""
    return write_work(tmp_path / "work")


@pytest.fixture
def config() -> TrainingConfig:
    """A training of seconds."""
    return TrainingConfig(epochs=3, iterations=4, validation_iterations=2, workers=0, learning_rate=0.02, momentum=0.9)
