"""Time the parts of a training before it starts, to tell how long it will take and what is quicker."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from configs.fingerprint import Shape
from configs.plan import ModelPlan
from configs.training import TrainingConfig
from inference.device import seconds_of
from inference.engine.capacity import Capacity
from inference.engine.ensemble import count_tiles
from inference.engine.scaling import scaled_shape
from inference.sizes.calibrate import FEWEST_CASES
from inference.sizes.calibration import WIDEST
from inference.sizes.measure import Observer, affordable_cases, looked_at_sizes
from inference.sizes.of_model import can_look
from inference.trial import random_images
from trainers.job import Job
from trainers.loop import Parts
from trainers.monitoring.progress_note import duration
from trainers.optimisation.distributed import share_of

WORTH_TELLING = 500  # steps; a shorter training is over before a forecast is read
_LONG = 3600.0  # seconds, from which quicker ways are named
_FEWEST_STEPS, _MOST_STEPS, _ENOUGH_SECONDS = 3, 20, 5.0  # of timed steps
_STEP = 0.5  # distance of tiles in validation, as a share of the patch
_FORWARD_SHARE = 1 / 3  # duration of a forward pass as a share of that of a training step
_SECONDS_OF_CASE = 0.3  # to read, resample, score and write a case
_SECONDS_OF_EPOCH = 0.3  # to write the checkpoint and the log


@dataclass(frozen=True)
class Speed:
    """Durations of the parts of a training on this machine, in seconds."""

    step: float  # a training step, with the loading of its batch
    epoch: float  # an epoch with its estimate on validation patches
    validation: float  # the segmentation of all validation cases
    calibration: float  # the looks at validation cases in other sizes

    def training(self, epochs: int) -> float:
        """Return the seconds of a training of this many epochs."""
        return self.epoch * epochs + self.validation + self.calibration


def measure_speed(job: Job, parts: Parts) -> Speed:
    """Take some steps on the batches of a training, and segment a tile. The weights change: the parts are not used again."""
    step = _time_steps(job, parts)
    shapes = [job.store.read(case).image.shape[1:] for case in job.split.validation]
    tile = _time_tile(job, parts) if shapes else 0.0
    return Speed(step, _epoch(job.config, step), _validation(job.plan, shapes, tile), _calibration(job, shapes, tile))


def forecast(job: Job, parts: Parts, epochs: int) -> str:
    """Return a sentence on the duration of a training. It leaves no trace in the weights and the random numbers."""
    step = _time_backward(job, parts)
    seconds = _epoch(job.config, step) * epochs
    steps = f"{epochs * job.config.iterations:,} steps of {step:.2g} s"
    text = f"this will take at least about {duration(seconds)} on this machine ({steps}, without waiting for data)"
    if seconds > _LONG:
        text += ". Quicker: --preset quick, fewer --epochs, or se_run --hours H, which plans what fits into this time"
    return text


def _time_steps(job: Job, parts: Parts) -> float:
    """Return the mean seconds of steps in which batches are loaded, too; the first third sets up kernels and fills queues."""
    durations: list[float] = []
    start = time.perf_counter()
    for batch in islice(parts.stream, _MOST_STEPS):
        parts.step(*batch.to(job.device))
        durations.append(time.perf_counter() - start)
        start = time.perf_counter()
        if len(durations) >= _FEWEST_STEPS and sum(durations) > _ENOUGH_SECONDS:
            break
    return statistics.fmean(durations[len(durations) // 3 :])


def _time_tile(job: Job, parts: Parts) -> float:
    """Return the seconds of a tile, from a look at some tiles of a validation case."""
    case, patch = job.store.read(job.split.validation[0]), job.plan.network.patch_size
    corner = (slice(None), *(slice(0, length + length // 2) for length in patch))
    image = torch.from_numpy(case.image[corner])
    observer = Observer(parts.learner.kept.eval(), job.plan, Capacity.of(job.device))
    seconds = seconds_of(lambda: observer.look(image, 1.0).expected.tolist(), _ENOUGH_SECONDS)  # waits for a GPU
    depth, height, width = image.shape[1:]
    return seconds / count_tiles((depth, height, width), patch, _STEP)


def _time_backward(job: Job, parts: Parts) -> float:
    """Return the seconds of a forward and a backward pass of random numbers."""
    planned = job.plan.network
    images = random_images(job.plan, len(share_of(planned.batch_size)), job.device)
    labels = torch.zeros((len(images), *planned.patch_size), dtype=torch.int16, device=job.device)
    seconds = seconds_of(lambda: parts.step.backward(images, labels).item(), math.inf)  # waits for a GPU
    parts.step.optimiser.zero_grad(set_to_none=True)
    return seconds


def _epoch(config: TrainingConfig, step: float) -> float:
    estimates = config.validation_iterations / config.validate_every
    return step * (config.iterations + _FORWARD_SHARE * estimates) + _SECONDS_OF_EPOCH


def _validation(plan: ModelPlan, shapes: Sequence[Shape], tile: float) -> float:
    tiles = sum(count_tiles(shape, plan.network.patch_size, _STEP) for shape in shapes)
    return tiles * plan.network.reflections * tile + len(shapes) * _SECONDS_OF_CASE


def _calibration(job: Job, shapes: Sequence[Shape], tile: float) -> float:
    """Return the seconds of all looks; the cases are those of `inference.sizes.measure.measure_looks`, taken as equally large."""
    if not can_look(job.fold, job.plan) or len(shapes) < FEWEST_CASES:
        return 0.0
    sizes, patch = job.plan.whole.sizes or WIDEST, job.plan.network.patch_size
    axes = [axis for axis, length in enumerate(patch) if length > 1]
    chosen = min(affordable_cases(sizes), len(shapes))
    tiles = sum(count_tiles(scaled_shape(shape, size, axes), patch, _STEP) for shape in shapes for size in looked_at_sizes(sizes))
    return tiles * tile * chosen / len(shapes) + _validation(job.plan, shapes, tile)
