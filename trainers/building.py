"""Build the parts of a training from a job."""

import os

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from configs.errors import counted
from configs.progress import Progress
from configs.training import TrainingConfig
from inference.model import make_network
from inference.sizes.measure import spread_evenly
from trainers.augmentation.planned import make_augmentation
from trainers.data.batches import BatchMaker, BatchSchedule
from trainers.data.cases import open_cases
from trainers.data.loading import BatchStream, choose_workers
from trainers.data.patches import PatchSampler, sampled_groups
from trainers.initial_weights.initialise import initialise
from trainers.initial_weights.rescale import rescale_before_norms, sizes_before_norms
from trainers.interruption import StopRequest
from trainers.job import Job
from trainers.loop import Parts
from trainers.monitoring.loggers import Logger, make_loggers
from trainers.monitoring.progress_note import duration
from trainers.monitoring.validation import VolumeCheck
from trainers.optimisation.checkpoint import CheckpointKeeper, Learner, TrainingState
from trainers.optimisation.compilation import compiled
from trainers.optimisation.distributed import rank, share_gradients, share_of
from trainers.optimisation.loss import make_loss
from trainers.optimisation.optimiser import make_optimiser, trained_parameters
from trainers.optimisation.precision import Precision
from trainers.optimisation.step import TrainingStep


def make_learner(job: Job) -> Learner:
    """Return the network, with fresh weights or those of another model, and its optimiser and checkpoints."""
    config = job.config
    torch.manual_seed(config.seed)  # equal weights in all processes
    network = make_network(job.plan.network, config.network_class)
    if config.init_weights and not job.fold.checkpoint.is_file():
        sizes = sizes_before_norms(network)
        initialise(network, config.init_weights, job.plan.dataset, job.plan.orientation)
        rescale_before_norms(network, sizes)
    network.to(job.device)
    torch.manual_seed(config.seed + rank())
    decay = config.weight_average
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None
    optimiser = make_optimiser(trained_parameters(network, config), config)
    precision = Precision(job.device, config.mixed_precision)
    keeper = CheckpointKeeper(job.fold.checkpoint, network, optimiser, precision, average)
    return Learner(network, average, optimiser, precision, keeper)


def make_parts(job: Job, learner: Learner, state: TrainingState, stop: StopRequest, progress: Progress) -> Parts:
    """Build everything that the loop calls."""
    config = job.config
    loss = make_loss(job.plan.dataset, job.plan.network.batch_dice, config).to(job.device)
    schedule = BatchSchedule(config.epochs, config.iterations, config.validate_every, config.validation_iterations)
    workers = choose_workers(job.device) if config.workers is None else config.workers
    maker = make_batches(job, progress)
    keys = schedule.keys(state.epoch, len(state.losses))
    network = share_gradients(_compiled(job, learner), job.device)
    loggers, check_volumes = _loggers(job), _volume_check(job, learner)
    step = TrainingStep(network, loss, learner.optimiser, learner.precision, config.clip_norm, config.accumulate, learner.average)
    return Parts(
        job=job,
        learner=learner,
        step=step,
        loss=loss,
        stream=BatchStream(maker, keys, workers, pin=job.device.type == "cuda"),  # last, since it starts processes
        schedule=schedule,
        loggers=loggers,
        check_volumes=check_volumes,
        stop=stop,
        progress=progress,
    )


def make_batches(job: Job, progress: Progress) -> BatchMaker:
    """Build cases, samplers and augmentation of a job."""
    config, planned, description = job.config, job.plan.network, job.plan.dataset
    # Without validation cases, the estimate uses training cases, so that the best epoch is still defined.
    held_out = job.split.validation or job.split.training
    cases = open_cases(job.store, sorted({*job.split.training, *held_out}), progress, previous=job.previous)
    training, validation = (
        PatchSampler(
            {name: cases[name] for name in names},
            planned.patch_size,
            planned.batch_size,
            config.oversample_foreground,
            sampled_groups(description),
            description.ignore_index,
            weights=[config.class_weights.get(name, 1.0) for name in description.foreground],
            probabilistic=config.oversampling == "probabilistic",
        )
        for names in (job.split.training, held_out)
    )
    augmentation = make_augmentation(planned, job.plan.configuration.normalisation, config)
    channels = description.cascade_channels if job.previous else 0
    # A user's own augmentation and the corruption of cascade inputs run in NumPy.
    on_device = config.augment_on == "device" and config.augmentation_class is None and not channels
    return BatchMaker(training, validation, augmentation, config.seed, share_of(planned.batch_size), channels, on_device)


def opening(job: Job, state: TrainingState, network: nn.Module) -> str:
    """Return one line for the log that describes the training."""
    planned = job.plan.network
    parameters = sum(parameter.numel() for parameter in network.parameters())
    given = job.config.init_weights
    start = "starting from scratch" if given is None else f"starting from {given}"
    start = f"resuming at epoch {state.epoch + 1}" if state.epoch or state.losses else start
    return (
        f"{job.fold.model.path.name}, fold {job.fold.name}: {len(job.split.training)} training and {len(job.split.validation)} validation "
        f"cases, {parameters:,} parameters, patch {' x '.join(map(str, planned.patch_size))}, batch {planned.batch_size}, "
        f"{_length(job.config)}, on {job.device} ({os.cpu_count()} cores), {start}"
    )


def _length(config: TrainingConfig) -> str:
    text = f"{counted(config.epochs, 'epoch')} of {config.iterations} steps"
    return text if config.time_limit is None else f"at most {text} within {duration(config.time_limit)}"


def _compiled(job: Job, learner: Learner) -> nn.Module:
    wanted = job.config.compile == "on" or (job.config.compile == "auto" and job.device.type == "cuda")
    if not wanted:
        return learner.network
    positions = len(share_of(job.plan.network.batch_size)) // job.config.accumulate or 1
    shape = (positions, job.plan.network.network.input_channels, *job.plan.network.patch_size)
    return compiled(learner.network, torch.zeros(shape, device=job.device), learner.precision)


def _loggers(job: Job) -> list[Logger]:
    if rank() > 0:
        return []
    return make_loggers(job.config.loggers, job.fold.path, str(job.fold), job.config.model_dump(mode="json"))


def _volume_check(job: Job, learner: Learner) -> VolumeCheck | None:
    if not job.config.volumes_every or not job.split.validation:
        return None
    cases = spread_evenly(sorted(job.split.validation), job.config.volumes)
    return VolumeCheck(learner.kept, job.plan, job.store, cases, job.device, job.previous)
