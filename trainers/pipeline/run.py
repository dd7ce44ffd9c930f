"""Run all stages from a dataset to a model: plan, preprocess, train, select, report, bundle."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from configs.errors import Fault, InputError, counted, raise_faults
from configs.files import delete_partial_files
from configs.folders import ALL, DatasetFolder, RunRecords, dataset_name
from configs.outputs import folder_faults
from configs.plan import Plan
from configs.progress import Progress, Silent
from inference.bundle.export import export_bundle
from inference.device import choose_device, existing_devices
from inference.prediction.selection import Selection
from inference.report.run import ReportOptions, write_report
from inference.selection.run import SelectionOptions, select
from planners.options import PlanningOptions
from planners.run import plan_and_preprocess
from preprocessing.dataset.splits import find_splits
from preprocessing.store import CaseStore
from trainers.job import delete_training
from trainers.monitoring.forecast import Speed
from trainers.monitoring.progress_note import duration
from trainers.pipeline.folds import Failures, is_done, threads_of_each, train_in_turn, train_on_cluster, train_on_devices
from trainers.pipeline.options import RunOptions
from trainers.pipeline.page import write_run_page
from trainers.pipeline.schedule import Schedule, Training, Wishes, make_schedule
from trainers.pipeline.speeds import measure_speeds

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """Results of a run.

    Attributes:
        page: path to the page that links to all results.
        models: folders of the selected models; several are averaged.
        selection: path to the selection file, an input of `se_predict --selection`; None where only fold `all` was trained.
        bundles: paths to the bundles of the selected models.
        failures: reason why a training failed, by its name; the results are without it.
    """

    page: Path
    models: tuple[Path, ...]
    selection: Path | None
    bundles: tuple[Path, ...]
    failures: Failures = field(default_factory=dict)


def run_dataset(
    dataset: str | Path,
    work: str | Path = "se_work",
    options: RunOptions | None = None,
    planning: PlanningOptions | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Plan a dataset, train its networks, choose among them, and write reports and a bundle.

    What is done is kept: called again after an interruption, it goes on with the same schedule. A dataset that se_plan_and_preprocess has
    planned before keeps its plan. A fold that fails does not stop the others.

    Args:
        dataset: folder of the dataset, in the raw layout of nnU-Net or of the Medical Segmentation Decathlon.
        work: output folder.
        options: options of the run.
        planning: overrides of the planning rules, for a dataset that has no plan yet.
        progress: progress display.

    Raises:
        InputError: the dataset or an option has faults, or every training failed.
        TrainingInterruptedError: a signal was received; the training was saved.
        RuntimeError: the preprocessing of the named cases failed.
    """
    options, progress = options or RunOptions(), progress or Silent()
    start = time.monotonic()
    folder = prepare(dataset, Path(work), options, planning, progress)
    devices = options.devices or _all_gpus()
    schedule, speeds = _schedule(folder, options, planning, devices, start, progress)
    tell(folder, schedule)
    failures = _train(folder, schedule, speeds, devices, options, progress)
    progress.note("")
    result = _finish(folder, schedule, failures, devices, options, progress)
    _logger.info("all done in %s", duration(time.monotonic() - start))
    return result


def prepare(
    dataset: str | Path, work: Path, options: RunOptions, planning: PlanningOptions | None, progress: Progress
) -> DatasetFolder:
    """Plan and preprocess a dataset, and return its folder under WORK.

    A dataset with a schedule, or one that is prepared while no options of the planner are given, is left as it is.

    Raises:
        InputError: the dataset or an option has faults.
        RuntimeError: the preprocessing of the named cases failed.
    """
    folder = DatasetFolder(work / dataset_name(Path(dataset)))
    raise_faults(folder_faults(folder.path))
    delete_partial_files(folder.path, RunRecords(folder.path).bundles, *(model.path for model in folder.models))
    goes_on = RunRecords(folder.path).schedule.is_file() and not options.restart
    if goes_on or (planning is None and _is_prepared(folder)):
        _logger.info("the plan and the prepared cases in %s are used as they are", folder.path)
        return folder
    plan_and_preprocess(
        dataset, work, planning, splits=options.splits, jobs=options.jobs, progress=progress, scheduler=options.scheduler
    )
    return folder


def load_schedule(folder: DatasetFolder, options: RunOptions, planning: PlanningOptions | None) -> Schedule | None:
    """Return the schedule of a run that goes on; None where there is none, or a new one is wanted.

    Raises:
        InputError: options differ from those of the schedule; all of them are listed.
    """
    if options.restart or not RunRecords(folder.path).schedule.is_file():
        return None
    schedule = Schedule.read(RunRecords(folder.path).schedule)
    remedy = "Leave the option out to go on with the schedule, or give --restart, which trains again"
    raise_faults(
        Fault(
            f"option {name}",
            f"{value} differs from {schedule.asked.get(name, 'none')} in {RunRecords(folder.path).schedule}",
            remedy,
        )
        for name, value in options.asked(planning).items()
        if value != schedule.asked.get(name)
    )
    return schedule


def save_schedule(folder: DatasetFolder, schedule: Schedule) -> None:
    """Write the schedule, and its settings as a preset for se_train."""
    schedule.settings.write(RunRecords(folder.path).settings)
    schedule.write(RunRecords(folder.path).schedule)


def wishes_of(folder: DatasetFolder, options: RunOptions, on_gpu: bool) -> tuple[Plan, Wishes]:
    """Return the plan of a prepared dataset, and what the options ask of it."""
    plan = Plan.read(folder.plan)
    cases = CaseStore(folder.prepared(next(iter(plan.configurations)))).identifiers()
    return plan, Wishes.of(options, plan, len(find_splits(folder.splits, cases)), on_gpu)


def tell(folder: DatasetFolder, schedule: Schedule) -> None:
    """Log what will be trained, with the expected end of each training, and what is given up."""
    settings, now = schedule.settings, time.time()
    length = f"{settings.steps:,} steps" if settings.time_limit is None else duration(settings.time_limit)
    _logger.info("%s, each of %s and its validation:", counted(len(schedule.trainings), "training"), length)
    for training in schedule.trainings:
        if is_done(folder, training):
            _logger.info("  %s: done", training)
        elif training.seconds is None:
            _logger.info("  %s", training)
        else:
            now += training.seconds
            _logger.info(
                "  %s: about %s, until %s", training, duration(training.seconds), time.strftime("%a %H:%M", time.localtime(now))
            )
    for given_up in schedule.gives_up:
        _logger.info("  given up for the time: %s", given_up)


def _is_prepared(folder: DatasetFolder) -> bool:
    """Return whether every case of the fingerprint is prepared in every configuration."""
    if not (folder.plan.is_file() and folder.fingerprint_table.is_file() and folder.preprocessed.is_dir()):
        return False
    plan = Plan.read(folder.plan)
    stores = {CaseStore(folder.prepared(planned.cases_of or name)) for name, planned in plan.configurations.items()}
    cases = {tuple(store.identifiers()) for store in stores if store.folder.is_dir()}
    return len(cases) == 1 and all(store.folder.is_dir() for store in stores)


def _schedule(
    folder: DatasetFolder,
    options: RunOptions,
    planning: PlanningOptions | None,
    devices: Sequence[str],
    start: float,
    progress: Progress,
) -> tuple[Schedule, Mapping[tuple[str, str], Speed]]:
    """Return the schedule that goes on, or a new one, and the speeds that were measured for it."""
    known = load_schedule(folder, options, planning)
    if known is not None:
        return known, {}
    device = choose_device(devices[0] if devices else None)
    plan, wishes = wishes_of(folder, options, device.type == "cuda")
    speeds: Mapping[tuple[str, str], Speed] = {}
    if options.scheduler is None:
        threads = threads_of_each(devices) if len(devices) > 1 else None
        speeds = measure_speeds(folder, plan, wishes.trainings(), wishes.settings, device, progress, threads)
    side_by_side = max(1, len(devices))
    schedule = make_schedule(wishes, options.asked(planning), plan, speeds, time.monotonic() - start, side_by_side)
    if options.restart:
        _delete_trainings(folder, schedule)
    save_schedule(folder, schedule)
    return schedule, speeds


def _delete_trainings(folder: DatasetFolder, schedule: Schedule) -> None:
    """Delete all folds of the scheduled models, since the folds of a model have the same settings."""
    for training in schedule.trainings:
        for fold in folder.model(training.configuration, training.network).folds():
            delete_training(fold)


def _train(
    folder: DatasetFolder,
    schedule: Schedule,
    speeds: Mapping[tuple[str, str], Speed],
    devices: Sequence[str],
    options: RunOptions,
    progress: Progress,
) -> Failures:
    if options.scheduler is not None:
        return train_on_cluster(folder, schedule, options.scheduler, progress)
    if len(devices) > 1:
        return train_on_devices(folder, schedule, devices, progress)
    return train_in_turn(folder, schedule, speeds, devices[0] if devices else None, progress)


def _finish(
    folder: DatasetFolder, schedule: Schedule, failures: Failures, devices: Sequence[str], options: RunOptions, progress: Progress
) -> RunResult:
    """Select, report and bundle what was trained."""
    done = [training for training in schedule.trainings if str(training) not in failures]
    if not done:
        raise InputError(*(Fault(name, reason, "Mend it and run se_run again") for name, reason in failures.items()))
    device = devices[0] if devices else None
    folds = _common_folds(done)
    models: tuple[Path, ...] = (folder.model(done[0].configuration, done[0].network).path,)
    path = None
    if folds:
        choice = SelectionOptions(folds=folds, device=device, jobs=options.jobs or 1)
        path, selection = select(folder.path, options=choice, progress=progress)
        models = tuple(selection.model_folders(path))
    write_report(folder.path, options=ReportOptions(equivariance=False, device=device), progress=progress)
    bundles = tuple(_bundle(folder, model, folds) for model in models)
    page = write_run_page(folder, schedule, failures, Selection.read(path) if path else None, bundles)
    return RunResult(page, models, path, bundles, failures)


def _bundle(folder: DatasetFolder, model: Path, folds: tuple[int | str, ...]) -> Path:
    output = RunRecords(folder.path).bundles / f"{folder.path.name}_{model.name}.zip"
    export_bundle(model, output, folds=folds or None)
    return output


def _common_folds(done: Sequence[Training]) -> tuple[int | str, ...]:
    """Return the folds with their own validation cases that all models have completed, or else those of the first model."""
    by_model: dict[str, list[int | str]] = {}
    for training in done:
        if training.fold != ALL:
            by_model.setdefault(training.model, []).append(training.fold)
    folds = list(by_model.values())
    common = [fold for fold in folds[0] if all(fold in others for others in folds)] if folds else []
    return tuple(common or (folds[0] if folds else ()))


def _all_gpus() -> tuple[str, ...]:
    gpus = tuple(name for name in existing_devices() if name.startswith("cuda"))
    return gpus if len(gpus) > 1 else ()
