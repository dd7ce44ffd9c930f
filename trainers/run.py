"""Training of one fold, put together: what is where, with which settings, from which state."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from configs.errors import Fault, InputError
from configs.plan import NetworkPlan, Plan
from configs.progress import Progress, Silent
from configs.training import TrainingConfig
from inference import Predictor
from inference.device import choose_device
from preprocessing.store import CaseStore
from se_unet import build_network
from se_unet.weights import save_weights
from trainers.augmentation import make_augmentation
from trainers.batches import BatchMaker, Schedule
from trainers.cases import open_cases
from trainers.checkpoint import CheckpointKeeper, TrainingState, epochs_done
from trainers.folders import DatasetFolder, FoldFolder, ModelFolder, find_dataset
from trainers.interruption import Stoppable, StopRequest
from trainers.loading import BatchStream, choose_workers
from trainers.loop import Parts, Trainer
from trainers.loss import make_loss
from trainers.optimisation import make_optimiser
from trainers.patches import PatchSampler, sampled_groups
from trainers.precision import Precision
from trainers.settings import adapt_plan, check_settings
from trainers.splits import Split, choose_split
from trainers.validation import table_of, validate_fold

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One fold of one model, decided: nothing has been written yet.

    Attributes:
        dataset: folder of the dataset under WORK.
        model: folder of the model.
        fold: a number, or "all".
        split: its cases.
        plan: one configuration with one network, as it will be trained.
        config: settings.
        device: of the network.
        resume_hint: how to go on after an interruption.
    """

    dataset: DatasetFolder
    model: ModelFolder
    fold: int | str
    split: Split
    plan: Plan
    config: TrainingConfig
    device: torch.device
    resume_hint: str

    @property
    def folder(self) -> FoldFolder:
        """Folder of the fold."""
        return self.model.fold(self.fold)

    @property
    def configuration(self) -> str:
        """Name of the configuration."""
        return next(iter(self.plan.configurations))

    @property
    def planned(self) -> NetworkPlan:
        """The network as it will be trained."""
        return next(iter(self.plan.configurations[self.configuration].networks.values()))

    @property
    def store(self) -> CaseStore:
        """The prepared cases."""
        return CaseStore(self.dataset.preprocessed(self.configuration))


def train(
    dataset: str | Path,
    work: Path | str = "se_work",
    network: str = "se",
    configuration: str = "3d_fullres",
    fold: int | str = 0,
    config: TrainingConfig | None = None,
    *,
    tag: str | None = None,
    resume: bool = False,
    restart: bool = False,
    validate_only: bool = False,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
    resume_hint: str = "Call train again with resume=True to go on.",
) -> Path:
    """Train one fold and validate it on whole volumes.

    With a fixed seed the same batches come in the same order, whatever the number of workers, and a resumed training goes on with
    those that would have come.

    Args:
        dataset: name of a planned dataset under `work`, or the folder of its images.
        work: where plans and models are kept.
        network: `se`, `baseline` or another network of the plan.
        configuration: of the plan.
        fold: a number from 0, or "all" (every case trains and validates).
        config: settings; None takes the defaults.
        tag: tells models with other settings apart.
        resume: go on from the checkpoint where there is one, else start. A finished training is extended where `config` has more
            epochs, else only validated where that is missing.
        restart: delete what the fold has.
        validate_only: score the fold's final weights again.
        device: such as "cuda:1"; None takes the best there is.
        progress: shows the steps.
        resume_hint: told on an interruption.

    Returns:
        The fold's folder.

    Raises:
        InputError: something is missing or contradictory, or the fold exists and neither `resume` nor `restart` is given.
        TrainingInterruptedError: on SIGTERM, SIGINT or SIGUSR1, after saving.
        NotFiniteError, LoadingError: see there.
    """
    folder = find_dataset(dataset, Path(work))
    config = config or TrainingConfig()
    plan = Plan.read(folder.plan)
    adapted = plan.only(configuration, network, adapt_plan(plan.network(configuration, network), config))
    model = folder.model(configuration, network, tag)
    identifiers = CaseStore(folder.preprocessed(configuration)).identifiers()
    split = choose_split(folder.splits, fold, identifiers)
    job = Job(folder, model, fold, split, adapted, config, choose_device(device), resume_hint)
    progress = progress or Silent()
    with StopRequest() as stop:
        if validate_only:
            _require_weights(job.folder)
        else:
            _prepare(job, resume, restart)
            _fit(job, stop, progress)
        if validate_only or not (resume and job.folder.metrics.is_file()):
            _validate(job, stop, progress)
    return job.folder.path


def _require_weights(folder: FoldFolder) -> None:
    if not folder.final_weights.is_file():
        raise InputError(Fault(str(folder.path), f"it holds no {folder.final_weights.name}", "Train the fold to its end first"))


def _prepare(job: Job, resume: bool, restart: bool) -> None:
    """Check that nothing trained is lost, then write the model's plan and settings."""
    folder = job.folder
    if resume and restart:
        raise InputError(Fault("--resume and --restart", "they contradict each other", "Give one of them"))
    if folder.is_started and not (resume or restart):
        finished = folder.final_weights.is_file()
        state = "a finished training" if finished else f"a training after {epochs_done(folder.checkpoint)} of its epochs"
        remedy = f"Go on with --resume{' and more --epochs' * finished}, delete it with --restart, or choose another --tag"
        raise InputError(Fault(str(folder.path), f"it holds {state}", remedy))
    if resume and folder.final_weights.is_file() and not folder.checkpoint.is_file():
        problem = f"it holds final weights without {folder.checkpoint.name}, so the training cannot go on"
        raise InputError(Fault(str(folder.path), problem, "Score them with --validate-only, or train anew with --restart"))
    plan_changed = job.model.plan.is_file() and Plan.read(job.model.plan) != job.plan
    check_settings(job.model, job.fold, job.config, plan_changed, resume)
    if restart:
        folder.clear()
    job.plan.write(job.model.plan)
    job.config.write(job.model.settings)


def _fit(job: Job, stop: StopRequest, progress: Progress) -> None:
    """Train from the fold's checkpoint, or from the start, to the end."""
    config, folder = job.config, job.folder
    torch.manual_seed(config.seed)
    network = build_network(job.planned.network).to(job.device)
    optimiser = make_optimiser(network.parameters(), config)
    precision = Precision(job.device, config.mixed_precision == "auto")
    keeper = CheckpointKeeper(folder.checkpoint, network, optimiser, precision)
    state = keeper.load() if folder.checkpoint.is_file() else TrainingState()
    if state.epoch >= config.epochs and folder.final_weights.is_file():
        logger.info("fold %s has all %d epochs", job.fold, config.epochs)
        return
    folder.metrics.unlink(missing_ok=True)
    logger.info(_opening(job, state, network))
    schedule = Schedule(config.epochs, config.iterations, config.validate_every, config.validation_iterations)
    workers = choose_workers(job.device) if config.workers is None else config.workers
    maker = make_batches(job, progress)
    stream = BatchStream(maker, schedule.keys(state.epoch, len(state.losses)), workers, pin=job.device.type == "cuda")
    parts = Parts(
        network=network,
        loss=make_loss(job.plan.dataset, job.planned.batch_dice).to(job.device),
        optimiser=optimiser,
        precision=precision,
        device=job.device,
        stream=stream,
        schedule=schedule,
        config=config,
        description=job.plan.dataset,
        folder=folder,
        keeper=keeper,
        stop=stop,
        progress=progress,
        resume_hint=job.resume_hint,
    )
    try:
        Trainer(parts, state).run()
    finally:
        stream.close()
    save_weights(network, folder.final_weights)


def make_batches(job: Job, progress: Progress) -> BatchMaker:
    """Cases, samplers and augmentation of a job."""
    planned, description = job.planned, job.plan.dataset
    # Where there are no cases to validate on, the estimate uses those of training, so that the best epoch is still defined.
    held_out = job.split.validation or job.split.training
    cases = open_cases(job.store, sorted({*job.split.training, *held_out}), progress)
    training, validation = (
        PatchSampler(
            {name: cases[name] for name in names},
            planned.patch_size,
            planned.batch_size,
            job.config.oversample_foreground,
            sampled_groups(description),
            description.ignore_index,
        )
        for names in (job.split.training, held_out)
    )
    configuration = job.plan.configurations[job.configuration]
    return BatchMaker(training, validation, make_augmentation(planned, configuration.normalisation, job.config), job.config.seed)


def _validate(job: Job, stop: StopRequest, progress: Progress) -> None:
    if not job.split.validation:
        logger.info("fold %s has no validation cases", job.fold)
        return
    predictor = Predictor.load(job.model.path, job.device, folds=[job.fold])
    progress.note("")
    unfinished = f"the training is finished, its validation is not. {job.resume_hint}"
    cases, tiles = Stoppable(progress, stop, unfinished), Stoppable(Silent(), stop, unfinished)
    result = validate_fold(predictor, job.store, job.split.validation, job.folder, cases, tiles)
    logger.info("validation of fold %s on whole volumes:\n%s", job.fold, table_of(result, job.plan.dataset))


def _opening(job: Job, state: TrainingState, network: torch.nn.Module) -> str:
    planned = job.planned
    parameters = sum(parameter.numel() for parameter in network.parameters())
    start = f"going on at epoch {state.epoch + 1}" if state.epoch or state.losses else "from the start"
    return (
        f"{job.model.path.name}, fold {job.fold}: {len(job.split.training)} training and {len(job.split.validation)} validation "
        f"cases, {parameters:,} parameters, patch {' x '.join(map(str, planned.patch_size))}, batch {planned.batch_size}, "
        f"{job.config.epochs} epochs of {job.config.iterations} steps, on {job.device} ({os.cpu_count()} cores), {start}"
    )
