"""Trainings that end by the clock: their learning rate falls with the time that has passed."""

import math
from collections.abc import Mapping, Sequence

from configs.training import TrainingConfig


def share_of_time(config: TrainingConfig, rows: Sequence[Mapping[str, float]], iteration: int = 0) -> float:
    """Return which share of the time limit has passed at a step of the current epoch; 0 without a limit.

    The steps of this epoch are taken to last as long as those of the epoch before it, so that all processes and a resumed training agree.

    Args:
        config: settings of the training.
        rows: finished epochs, see `trainers.monitoring.history.EpochRecord.row`.
        iteration: steps of the current epoch so far.
    """
    if config.time_limit is None or not rows:
        return 0.0
    passed = sum(row["seconds"] for row in rows) + rows[-1]["seconds"] * iteration / config.iterations
    return min(1.0, passed / config.time_limit)


def left_of(config: TrainingConfig, share: float) -> float:
    """Return the seconds that are left of the time limit when a share of it has passed; infinity without a limit."""
    return math.inf if config.time_limit is None else config.time_limit * (1 - share)


def is_complete(config: TrainingConfig, rows: Sequence[Mapping[str, float]]) -> bool:
    """Return whether a training has had all of its epochs, or as many as come nearest to its time limit."""
    if config.time_limit is None or not rows:
        return len(rows) >= config.epochs
    return len(rows) >= config.epochs or share_of_time(config, rows, config.iterations // 2) >= 1
