"""Train one fold, from the dataset's name to the validated weights."""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

import torch

from configs.errors import InputError, raise_faults
from configs.folders import FoldFolder, find_dataset
from configs.named_parts import import_part
from configs.outputs import folder_faults, held
from configs.plan import ModelPlan, Plan
from configs.progress import Progress, Silent
from configs.training import TrainingConfig
from inference import Predictor
from inference.device import choose_device
from inference.evaluation.validated import begin_validation
from inference.options import PredictionOptions
from inference.sizes.calibrate import FEWEST_CASES
from inference.sizes.of_model import calibrate_model, can_look, has_looks, look_at_fold, tell_too_few
from preprocessing.dataset.fold_record import held_out_cases
from preprocessing.run import require_prepared
from se_unet.weights import save_weights
from trainers.building import make_batches, make_learner, make_parts, opening
from trainers.interruption import Stoppable, StopRequest
from trainers.job import Job, adapt_plan, check_annotated, check_label_weights, prepare_fold, require_weights, split_of
from trainers.loop import Parts, Trainer
from trainers.monitoring.forecast import WORTH_TELLING, forecast
from trainers.monitoring.validation import table_of, validate_fold
from trainers.optimisation.checkpoint import TrainingState
from trainers.optimisation.distributed import rank, wait_for_all
from trainers.optimisation.step import explained_memory
from trainers.optimisation.time_limit import is_complete
from trainers.trial import try_parts

logger = logging.getLogger(__name__)


def train(
    dataset: str | Path,
    work: str | Path = "se_work",
    network: str = "se",
    configuration: str = "3d_fullres",
    fold: int | str = 0,
    config: TrainingConfig | None = None,
    *,
    tag: str | None = None,
    resume: bool = False,
    restart: bool = False,
    validate_only: bool = False,
    preview: bool = False,
    group_by: str | Path | None = None,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
    resume_hint: str = "Call train again with resume=True to continue.",
) -> Path:
    """Train one fold, and validate it on whole volumes.

    With a fixed seed the batches are the same, in the same order, for any number of workers, and a resumed training continues with the
    batches that an uninterrupted one would have seen. If torch.distributed is initialised, its processes share each batch, and all of
    them must call this function with equal arguments.

    Args:
        dataset: name of a planned dataset in `work`, or folder of the raw dataset.
        work: folder of plans and models.
        network: `se`, `baseline` or another network of the plan.
        configuration: configuration of the plan.
        fold: number of the fold from 0, or "all" to train and validate on every case.
        config: training settings; None takes the defaults.
        tag: tag that distinguishes models with other settings.
        resume: continue from the checkpoint if there is one. A finished training is extended if `config` has more epochs, and validated
            if its validation is missing.
        restart: delete a previous training of the fold.
        validate_only: only validate the fold's final weights again.
        preview: draw the first patches before and after augmentation.
        group_by: file that maps cases to groups, used when folds are made so that a group stays together; see `splits.read_groups`.
        device: device such as "cuda:1"; None takes the best available.
        progress: progress display over the steps.
        resume_hint: hint shown after an interruption.

    Returns:
        The fold's folder.

    Raises:
        InputError: input is missing or contradictory, the fold exists and neither `resume` nor `restart` is given, or another process
            is training it.
        TrainingInterruptedError: SIGTERM, SIGINT or SIGUSR1 was received; the training was saved.
        NotFiniteError: loss or gradients were not finite in several consecutive steps.
        LoadingError: a batch cannot be made.
        DeviceMemoryError: the device has too little memory.
    """
    folder = find_dataset(dataset, Path(work))
    config = config or TrainingConfig()
    plan = Plan.read(folder.plan)
    adapted = plan.only(configuration, network, adapt_plan(plan.network(configuration, network), config))
    model = folder.model(configuration, network, tag)
    if validate_only and model.plan.is_file():  # the dataset's plan may have changed since
        adapted = ModelPlan.read(model.plan)
    raise_faults(folder_faults(model.fold(fold).path))
    if not (validate_only or (resume and model.fold(fold).checkpoint.is_file())):
        check_label_weights(config, adapted.dataset)
    with _first_process_first():
        groups = None if group_by is None else Path(group_by)
        split = split_of(model.fold(fold), fold, adapted, groups, resume or validate_only)
    job = Job(model.fold(fold), split, adapted, config, choose_device(device), resume_hint)
    require_prepared(job.store, split.validation if validate_only else [*split.training, *split.validation], adapted)
    progress = progress or Silent()
    if not validate_only:
        check_annotated(job)
        try_parts(job)
    with StopRequest() as stop:
        with _first_process_first():
            _prepare_previous(job, network, tag, progress)
        with _alone(job.fold):  # of a former training, if there is one
            _begin(job, validate_only, resume, restart)
        with _alone(job.fold), held(job.store.folder, to_read=True):  # the fold exists from now on
            if not validate_only:
                with explained_memory():
                    _fit(job, stop, progress, preview)
            if rank() == 0:
                _assess(job, stop, progress, again=validate_only or not resume)
    return job.fold.path


def _assess(job: Job, stop: StopRequest, progress: Progress, again: bool) -> None:
    """Validate the fold unless that is done and not wanted `again`, and calibrate it."""
    if not job.split.validation:
        logger.info("fold %s has no validation cases", job.fold.name)
        return
    if again or not job.fold.validation.metrics.is_file():
        _validate(job, stop, progress)
    _calibrate(job, stop, progress)


def _alone(fold: FoldFolder) -> AbstractContextManager[None]:
    """Hold the fold's folder, if it exists, in the first process of a training."""
    return held(fold.path) if rank() == 0 else nullcontext()


def _begin(job: Job, validate_only: bool, resume: bool, restart: bool) -> None:
    """Check that the fold may be trained or validated, and write the model's plan and settings."""
    if validate_only:
        require_weights(job.fold)
        return
    if rank() == 0:
        prepare_fold(job, resume, restart)
    wait_for_all()


def _prepare_previous(job: Job, network: str, tag: str | None, progress: Progress) -> None:
    """Provide the first network's segmentations to the second network of a cascade; the first has the same tag, or none."""
    if job.previous is None or job.plan.configuration.previous is None:
        return
    candidates = [job.fold.model.dataset.model(job.plan.configuration.previous, network, each) for each in (tag, None)]
    first = next((model for model in candidates if model.path.is_dir()), candidates[-1])
    cases = sorted({*job.split.training, *job.split.validation})
    job.previous.prepare(first, job.store, cases, job.plan.dataset, progress)


@contextmanager
def _first_process_first() -> Iterator[None]:
    """Run the block in the first process before the others, which then find what it wrote."""
    if rank() > 0:
        wait_for_all()
    yield
    if rank() == 0:
        wait_for_all()


def _fit(job: Job, stop: StopRequest, progress: Progress, preview: bool) -> None:
    """Train to the end, from the fold's checkpoint or from the start."""
    config, folder = job.config, job.fold
    _set_algorithms(config.deterministic)
    learner = make_learner(job)
    state = learner.keeper.load() if folder.checkpoint.is_file() else TrainingState()
    if is_complete(config, state.rows) and folder.final_weights.is_file():
        logger.info("fold %s has completed its %d epochs", job.fold.name, state.epoch)
        return
    folder.validation.metrics.unlink(missing_ok=True)
    logger.info(opening(job, state, learner.network))
    if preview and rank() == 0:
        _preview(job, progress)
    parts = make_parts(job, learner, state, stop, progress)
    _tell_duration(job, parts, state)
    trainer = Trainer if config.trainer_class is None else import_part(config.trainer_class, "trainer class")
    try:
        trainer(parts, state).run()
    except RuntimeError as error:
        parts.stream.explain(error)
        raise
    finally:
        parts.stream.close()
        for numbers in parts.loggers:
            numbers.close()
    if rank() == 0:
        save_weights(learner.kept, folder.final_weights)


def _tell_duration(job: Job, parts: Parts, state: TrainingState) -> None:
    """Log how long the training will take, unless it is short or its time is set; a user's own network or loss may not bear a trial."""
    untold = (job.config.network_class, job.config.loss_class, job.config.trainer_class, job.config.time_limit)
    left = job.config.epochs - state.epoch
    if not any(untold) and left * job.config.iterations >= WORTH_TELLING:
        logger.info(forecast(job, parts, left))


def _set_algorithms(deterministic: bool) -> None:
    """Choose the fastest GPU algorithms for the patch, or deterministic ones."""
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, matrix products of CUDA differ from run to run
        torch.use_deterministic_algorithms(True, warn_only=True)


def _preview(job: Job, progress: Progress) -> None:
    from trainers.monitoring.preview import write_preview  # matplotlib is slow to import

    path = job.fold.records.preview
    write_preview(make_batches(job, progress), path, job.plan.network.batch_size)
    logger.info("wrote patches before and after augmentation to %s", path)


def _validate(job: Job, stop: StopRequest, progress: Progress) -> None:
    begin_validation(job.fold)
    predictor = _predictor_of(job)
    progress.note("")
    unfinished = f"the training is complete, but its validation is not. {job.resume_hint}"
    cases, tiles = Stoppable(progress, stop, unfinished), Stoppable(Silent(), stop, unfinished)
    result = validate_fold(predictor, job.store, job.split.validation, job.fold.validation, cases, tiles, job.previous)
    logger.info("validation of fold %s on whole volumes:\n%s", job.fold.name, table_of(result, job.plan.dataset))


def _calibrate(job: Job, stop: StopRequest, progress: Progress) -> None:
    """Calibrate the expected Dice, where the looks of this fold are missing or of other weights.

    A fold with fewer validation cases than a calibration needs waits until the trained folds have enough of them together.
    """
    if not can_look(job.fold, job.plan) or has_looks(job.fold):
        return
    cases = {job.fold: job.split.validation}
    if len(job.split.validation) < FEWEST_CASES:
        cases |= _held_out_by_others(job)
    number = sum(map(len, cases.values()))
    if number < FEWEST_CASES:
        tell_too_few(number)
        return
    stoppable = Stoppable(progress, stop, f"the fold is validated, but not calibrated. {job.resume_hint}")
    for fold, held_out in cases.items():
        if not has_looks(fold):
            predictor = _predictor_of(job, fold)
            look_at_fold(fold, predictor.networks[0][0], job.plan, job.store, held_out, predictor.device, stoppable)
    calibrate_model(job.fold.model, job.plan)


def _held_out_by_others(job: Job) -> dict[FoldFolder, tuple[str, ...]]:
    """Return the validation cases of the other trained folds; a fold whose cases are not known is left out."""
    found = {}
    for fold in job.fold.model.folds():
        if fold != job.fold and can_look(fold, job.plan) and fold.final_weights.is_file():
            with suppress(InputError):
                found[fold] = held_out_cases(fold)
    return found


def _predictor_of(job: Job, fold: FoldFolder | None = None) -> Predictor:
    """Return a predictor of the trained fold, or of another one, that segments images as they are, whatever is calibrated."""
    options = PredictionOptions(search="never")
    return Predictor.load(
        job.fold.model.path, job.device, [(fold or job.fold).name], options=options, network_class=job.config.network_class
    )
