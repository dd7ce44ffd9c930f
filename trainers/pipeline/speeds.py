"""Measure how fast each model trains on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from configs.folders import DatasetFolder
from configs.plan import Plan
from configs.progress import Progress, Silent
from trainers.building import make_learner, make_parts
from trainers.interruption import StopRequest
from trainers.job import Job, adapt_plan, split_of
from trainers.monitoring.forecast import Speed, measure_speed
from trainers.optimisation.checkpoint import TrainingState
from trainers.optimisation.step import explained_memory
from trainers.pipeline.schedule import Wishes


def measure_speeds(
    folder: DatasetFolder, plan: Plan, wishes: Wishes, device: torch.device, progress: Progress, threads: int
) -> dict[tuple[str, str], Speed]:
    """Return the speed of each model with this number of threads, by configuration and network.

    Second networks of cascades are left out: they need the first.

    Raises:
        InputError: cases are not prepared, or splits are faulty.
        DeviceMemoryError: the device has too little memory for a step.
    """
    timed = [model for model in wishes.models if plan.configuration(model[0]).previous is None]
    with _threads(threads):
        return {
            model: _measure(folder, plan, model, wishes, device)
            for model in progress.track(timed, "Timing some steps of each network", len(timed))
        }


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Compute with this number of threads in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _measure(folder: DatasetFolder, plan: Plan, model: tuple[str, str], wishes: Wishes, device: torch.device) -> Speed:
    config, name = wishes.settings.model_copy(update={"loggers": ()}), wishes.folds[0]
    adapted = plan.only(*model, adapt_plan(plan.network(*model), config))
    fold = folder.model(*model).fold(name)
    job = Job(fold, split_of(fold, name, adapted, None, goes_on=False), adapted, config, device, resume_hint="")
    with explained_memory():
        parts = make_parts(job, make_learner(job), TrainingState(), StopRequest(), Silent())
        try:
            return measure_speed(job, parts)
        finally:
            parts.stream.close()
