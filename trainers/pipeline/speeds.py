"""Measure how fast each model trains on this machine."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from configs.folders import DatasetFolder
from configs.plan import Plan
from configs.progress import Progress, Silent
from configs.training import TrainingConfig
from trainers.building import make_learner, make_parts
from trainers.interruption import StopRequest
from trainers.job import Job, adapt_plan, split_of
from trainers.monitoring.forecast import Speed, measure_speed
from trainers.optimisation.checkpoint import TrainingState
from trainers.optimisation.step import explained_memory
from trainers.pipeline.schedule import Training


def measure_speeds(
    folder: DatasetFolder,
    plan: Plan,
    trainings: Sequence[Training],
    config: TrainingConfig,
    device: torch.device,
    progress: Progress,
    threads: int | None = None,
) -> dict[tuple[str, str], Speed]:
    """Return the speed of each model with this number of threads, by configuration and network.

    Second networks of cascades are left out: they need the first.

    Raises:
        InputError: cases are not prepared, or splits are faulty.
        DeviceMemoryError: the device has too little memory for a step.
    """
    first = {(training.configuration, training.network): training for training in reversed(trainings)}
    models = dict.fromkeys((each.configuration, each.network) for each in trainings)
    timed = [name for name in models if plan.configuration(name[0]).previous is None]
    with _threads(threads):
        return {
            name: _measure(folder, plan, first[name], config, device)
            for name in progress.track(timed, "Timing some steps of each network", len(timed))
        }


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Compute with this number of threads in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _measure(folder: DatasetFolder, plan: Plan, training: Training, config: TrainingConfig, device: torch.device) -> Speed:
    planned = adapt_plan(plan.network(training.configuration, training.network), config)
    model = plan.only(training.configuration, training.network, planned)
    fold = folder.model(training.configuration, training.network).fold(training.fold)
    split = split_of(fold, training.fold, model, None, goes_on=False)
    job = Job(fold, split, model, config.model_copy(update={"loggers": ()}), device, resume_hint="")
    with explained_memory():
        parts = make_parts(job, make_learner(job), TrainingState(), StopRequest(), Silent())
        try:
            return measure_speed(job, parts)
        finally:
            parts.stream.close()
