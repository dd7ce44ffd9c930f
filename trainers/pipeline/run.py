"""Run all stages from a dataset to a model: plan, preprocess, train, select, report, bundle."""

import heapq
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from configs.errors import Fault, InputError, counted, listed, raise_faults
from configs.files import delete_partial_files
from configs.folders import ALL, DatasetFolder, RunRecords, dataset_name
from configs.outputs import folder_faults, held
from configs.plan import Plan
from configs.progress import Progress, Silent
from inference.bundle.export import export_bundle
from inference.device import choose_device
from inference.prediction.selection import Selection
from inference.report.run import ReportOptions, write_report
from inference.selection.run import SelectionOptions, select
from planners.options import PlanningOptions
from planners.run import plan_and_preprocess
from preprocessing.dataset.raw import scan_dataset
from preprocessing.dataset.splits import find_splits
from preprocessing.run import changed_cases
from preprocessing.store import CaseStore
from trainers.job import delete_training
from trainers.monitoring.progress_note import duration
from trainers.pipeline.devices import choose_devices, same_devices
from trainers.pipeline.folds import Failures, Speeds, is_done, threads_of_each, train_in_turn, train_on_cluster, train_on_devices
from trainers.pipeline.options import RunOptions
from trainers.pipeline.page import write_run_page
from trainers.pipeline.schedule import Schedule, Training, Wishes, make_schedule, trainings_of
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
        InputError: the dataset or an option has faults, it has changed since it was prepared, another process is working on it, or every
            training failed.
        TrainingInterruptedError: a signal was received; the training was saved.
        RuntimeError: the preprocessing of the named cases failed.
    """
    options, progress = options or RunOptions(), progress or Silent()
    start = time.monotonic()
    folder = prepare(dataset, Path(work), options, planning, progress)
    with held(folder.path):
        schedule, speeds, devices = _schedule(folder, options, planning, start, progress)
        tell(folder, schedule, len(devices))
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
        InputError: the dataset or an option has faults, the dataset has changed since it was prepared, or another process is working on it.
        RuntimeError: the preprocessing of the named cases failed.
    """
    folder = DatasetFolder(work / dataset_name(Path(dataset)))
    raise_faults(folder_faults(folder.path))
    with held(folder.path):
        delete_partial_files(folder.path, RunRecords(folder.path).bundles, *(model.path for model in folder.models))
        goes_on = RunRecords(folder.path).schedule.is_file() and not options.restart
        if goes_on or (planning is None and _is_prepared(folder)):
            _raise_if_changed(Path(dataset), folder)
            _logger.info("the plan and the prepared cases in %s are used as they are", folder.path)
            return folder
    before = folder.plan.read_bytes() if folder.plan.is_file() else None
    plan_and_preprocess(
        dataset, work, planning, splits=options.splits, jobs=options.jobs, progress=progress, scheduler=options.scheduler
    )
    if before not in (None, folder.plan.read_bytes()):
        _logger.warning("the plan in %s was made anew, since its cases were not all prepared or options were given", folder.path)
    return folder


def _raise_if_changed(dataset: Path, folder: DatasetFolder) -> None:
    """Raise `InputError` if the cases of the dataset, where it is still there, or the plan are not those that were prepared."""
    if not dataset.is_dir():
        return
    raw, plan = scan_dataset(dataset), Plan.read(folder.plan)
    prepared = {name: folder.prepared(name) for name, planned in plan.configurations.items() if not planned.cases_of}
    changed = sorted({case for name, store in prepared.items() for case in changed_cases(raw, plan, name, store)})
    remedy = "Run se_plan_and_preprocess on it again, and se_run with --restart, which trains again"
    if changed:
        problem = f"{counted(len(changed), 'case')} changed since it was prepared, or the plan did: {listed(changed, 3)}"
        raise InputError(Fault(str(dataset), problem, remedy))
    if raw.description != plan.dataset:
        raise InputError(Fault(str(folder.plan), f"dataset.json in {dataset} changed since it was planned", remedy))


def load_schedule(folder: DatasetFolder, options: RunOptions, planning: PlanningOptions | None) -> Schedule | None:
    """Return the schedule of a run that goes on; None where there is none, or a new one is wanted.

    Raises:
        InputError: options differ from those of the schedule; all of them are listed.
    """
    path = RunRecords(folder.path).schedule
    if options.restart or not path.is_file():
        return None
    schedule = Schedule.read(path)
    remedy = "Leave the option out to go on with the schedule, or give --restart, which trains again"
    raise_faults(
        Fault(f"option {name}", f"{value} differs from {schedule.asked.get(name, 'none')} in {path}", remedy)
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


def tell(folder: DatasetFolder, schedule: Schedule, side_by_side: int) -> None:
    """Log what will be trained, with the expected end of each training, and what is given up."""
    settings = schedule.settings
    length = f"{settings.steps:,} steps" if settings.time_limit is None else duration(settings.time_limit)
    number, beside = counted(len(schedule.trainings), "training"), f", {side_by_side} side by side" if side_by_side > 1 else ""
    _logger.info("%s, each of %s and its validation%s:", number, length, beside)
    free_at = [time.time()] * side_by_side
    for training in schedule.trainings:
        if is_done(folder, training):
            _logger.info("  %s: done", training)
        elif training.seconds is None:
            _logger.info("  %s", training)
        else:
            end = heapq.heappop(free_at) + training.seconds
            heapq.heappush(free_at, end)
            _logger.info(
                "  %s: about %s, until %s", training, duration(training.seconds), time.strftime("%a %H:%M", time.localtime(end))
            )
    for given_up in schedule.gives_up:
        _logger.info("  less than a full training: %s", given_up)


def _is_prepared(folder: DatasetFolder) -> bool:
    """Return whether every case of the fingerprint is prepared in every configuration."""
    if not (folder.plan.is_file() and folder.fingerprint_table.is_file() and folder.preprocessed.is_dir()):
        return False
    plan = Plan.read(folder.plan)
    stores = {CaseStore(folder.prepared(planned.cases_of or name)) for name, planned in plan.configurations.items()}
    cases = {tuple(store.identifiers()) for store in stores if store.folder.is_dir()}
    return len(cases) == 1 and all(store.folder.is_dir() for store in stores)


def _schedule(
    folder: DatasetFolder, options: RunOptions, planning: PlanningOptions | None, start: float, progress: Progress
) -> tuple[Schedule, Speeds, tuple[str, ...]]:
    """Return the schedule that goes on, or a new one, the speeds that were measured for it, and the devices."""
    known = load_schedule(folder, options, planning)
    if known is not None:
        return known, {}, same_devices(options.devices, known.side_by_side)
    device = choose_device(options.devices[0] if options.devices else None)
    plan, wishes = wishes_of(folder, options, device.type == "cuda")
    wanted = trainings_of(plan, wishes.models, wishes.folds)
    devices = choose_devices(options.devices, plan, wanted, wishes.settings)
    speeds: Speeds = {}
    if options.scheduler is not None:
        devices = devices[:1]  # of the stages after the trainings
    else:
        speeds = measure_speeds(folder, plan, wishes, device, progress, threads_of_each(devices))
    schedule = make_schedule(wishes, options.asked(planning), plan, speeds, time.monotonic() - start, len(devices))
    if options.restart:
        _delete_trainings(folder, schedule)
    save_schedule(folder, schedule)
    return schedule, speeds, devices[: schedule.side_by_side]


def _delete_trainings(folder: DatasetFolder, schedule: Schedule) -> None:
    """Delete all folds of the scheduled models, since the folds of a model have the same settings."""
    for training in schedule.trainings:
        for fold in folder.model(training.configuration, training.network).folds():
            delete_training(fold)


def _train(
    folder: DatasetFolder, schedule: Schedule, speeds: Speeds, devices: Sequence[str], options: RunOptions, progress: Progress
) -> Failures:
    if options.scheduler is not None:
        return train_on_cluster(folder, schedule, options.scheduler, progress)
    if len(devices) > 1:
        return train_on_devices(folder, schedule, speeds, devices, progress)
    return train_in_turn(folder, schedule, speeds, devices[0], progress)


def _finish(
    folder: DatasetFolder, schedule: Schedule, failures: Failures, devices: Sequence[str], options: RunOptions, progress: Progress
) -> RunResult:
    """Select, report and bundle what was trained."""
    done = [training for training in schedule.trainings if str(training) not in failures]
    if not done:
        raise InputError(*(Fault(name, reason, "Mend it and run se_run again") for name, reason in failures.items()))
    folds = _common_folds(done)
    models: tuple[Path, ...] = (folder.model(done[0].configuration, done[0].network).path,)
    path: Path | None = None
    selection: Selection | None = None
    if folds:
        choice = SelectionOptions(folds=folds, device=devices[0], jobs=options.jobs or 1)
        path, selection = select(folder.path, options=choice, progress=progress)
        models = tuple(selection.model_folders(path))
    write_report(folder.path, options=ReportOptions(equivariance=False, device=devices[0]), progress=progress)
    bundles = tuple(_bundle(folder, model, folds) for model in models)
    page = write_run_page(folder, schedule, failures, models[0], selection, bundles)
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
