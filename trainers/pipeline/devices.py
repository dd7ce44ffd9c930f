"""Choose the devices on which the folds of a run are trained side by side."""

from collections.abc import Sequence

import joblib

from configs.plan import Plan
from configs.training import TrainingConfig
from inference.device import existing_devices
from planners.rules.memory import training_bytes
from preprocessing.parallel.memory import WORKER_BYTES, available_bytes
from trainers.job import adapt_plan
from trainers.pipeline.schedule import Training

_SHARE = 0.5  # of the available memory; the rest is for cached cases, validation volumes and other programs
_PROCESSES = 3  # of a training: the one that trains, and those that load its data


def choose_devices(wanted: Sequence[str], plan: Plan, trainings: Sequence[Training], config: TrainingConfig) -> tuple[str, ...]:
    """Return the devices of a new run: those wanted, or else all GPUs, or the CPU as many times as trainings fit side by side.

    Small networks keep several cores badly busy: on two cores, two trainings with a thread each take 1.6 times the steps of one with two
    threads (hippocampus, `quick`).
    """
    if wanted:
        return tuple(wanted)
    if gpus := _gpus():
        return gpus
    largest = max(_bytes(plan, training, config) for training in trainings)
    fitting = int(_SHARE * available_bytes() / largest)
    return ("cpu",) * max(1, min(int(joblib.cpu_count()), len(trainings), fitting))


def same_devices(wanted: Sequence[str], side_by_side: int) -> tuple[str, ...]:
    """Return the devices of a run that goes on, on which so many trainings ran side by side."""
    return tuple(wanted) or _gpus() or ("cpu",) * side_by_side


def _gpus() -> tuple[str, ...]:
    return tuple(name for name in existing_devices() if name.startswith("cuda"))


def _bytes(plan: Plan, training: Training, config: TrainingConfig) -> int:
    """Return the memory in bytes that a training on the CPU takes."""
    planned = adapt_plan(plan.network(training.configuration, training.network), config)
    return _PROCESSES * WORKER_BYTES + training_bytes(planned.network, planned.patch_size, planned.batch_size, optimiser_states=2)
