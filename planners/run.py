"""Measure, plan and preprocess a dataset in one call."""

import logging
import math
from dataclasses import replace
from pathlib import Path

from configs.errors import Fault, InputError, raise_faults
from configs.fingerprint import Fingerprint
from configs.folders import DatasetFolder
from configs.outputs import folder_faults, held
from configs.plan import Plan
from configs.progress import Progress, Silent
from planners.fingerprint.measure import make_fingerprint
from planners.fingerprint.table import write_fingerprint_table
from planners.options import PlanningOptions
from planners.plan import make_plan
from planners.report.findings import find_early
from planners.report.page import write_planning_report
from planners.rules.grid import prepared_shape
from planners.rules.normalisation import resembling_names
from planners.rules.orientation import turn_cases
from preprocessing.dataset.raw import scan_dataset
from preprocessing.dataset.splits import adopt_splits
from preprocessing.dataset.validation import largest_case_bytes
from preprocessing.parallel.memory import case_bytes, choose_jobs
from preprocessing.run import preprocess_dataset

_logger = logging.getLogger(__name__)


def plan_and_preprocess(
    dataset: str | Path,
    work: str | Path = "se_work",
    options: PlanningOptions | None = None,
    *,
    splits: str | Path | None = None,
    jobs: int | None = None,
    plan_only: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    scheduler: str | None = None,
) -> Plan:
    """Validate and measure a dataset, plan its networks and preprocess its cases.

    Writes `dataset.json`, `fingerprint.json` and `.csv`, `plan.json`, `report.html` and `preprocessed/<configuration>/` into the dataset's
    folder under `work`. A second run validates and plans again, but preprocesses only missing and outdated cases.

    Args:
        dataset: folder of the dataset, in the raw layout of nnU-Net or of the Medical Segmentation Decathlon.
        work: output folder.
        options: overrides of the planning rules.
        splits: file with the cases of each fold, as `preprocessing.dataset.splits` reads it. None takes `splits_final.json` of the
            dataset's folder if there is one; otherwise the first training makes the folds.
        jobs: number of processes; None means one for each processor, as far as memory suffices.
        plan_only: whether to stop after the plan.
        overwrite: whether to preprocess all cases again.
        progress: progress display, advanced for each case.
        scheduler: address of a Dask scheduler whose workers do the work; they must see `dataset` and `work` under the same paths.

    Returns:
        The plan.

    Raises:
        InputError: the dataset or an option has faults, all faults of the dataset are listed at once; or another process is working in
            the dataset's folder.
        RuntimeError: the preprocessing of the named cases failed; all other cases are preprocessed.
    """
    if jobs is not None and jobs < 1:
        raise InputError(Fault(f"--jobs {jobs}", "the number of processes must be at least 1", "Give 1 or more"))
    progress = progress or Silent()
    if scheduler is not None:
        dataset, work = Path(dataset).resolve(), Path(work).resolve()
    raw = scan_dataset(dataset)
    folder = DatasetFolder(Path(work) / raw.description.name)
    raise_faults(folder_faults(folder.path))
    with held(folder.path):  # before the time for the fingerprint is spent
        pass
    fingerprint = make_fingerprint(raw, choose_jobs(jobs, largest_case_bytes(raw), "Validating"), progress, scheduler)
    options = options or PlanningOptions()
    if options.nnunet_plans is None:
        options = replace(options, normalisation=options.normalisation or raw.normalisation)
    plan = make_plan(raw.description, fingerprint, options)
    turned = turn_cases(fingerprint, plan.orientation)
    _warn(turned, plan, options)
    folder.path.mkdir(parents=True, exist_ok=True)
    with held(folder.path):
        adopt_splits(splits, Path(dataset), folder.splits, set(fingerprint.cases))
        raw.description.write(folder.description)
        fingerprint.write(folder.fingerprint)
        write_fingerprint_table(folder.fingerprint_table, fingerprint)
        plan.write(folder.plan)
        report = write_planning_report(folder.path, raw, turned, plan)
        _logger.info("Wrote %s and %s", folder.plan, report)
        if not plan_only:
            for configuration in [name for name, planned in plan.configurations.items() if not planned.cases_of]:
                store = folder.prepared(configuration)
                fitting = choose_jobs(
                    jobs, _largest_prepared_bytes(turned, plan, configuration), f"Preprocessing {configuration}"
                )
                preprocess_dataset(raw, plan, configuration, store, fitting, progress, overwrite, scheduler)
    return plan


def _warn(fingerprint: Fingerprint, plan: Plan, options: PlanningOptions) -> None:
    """Log what a user should know before time and memory are spent; the report shows it too."""
    normalisations = dict.fromkeys(configuration.normalisation for configuration in plan.configurations.values())
    for warning in (each for schemes in normalisations for each in resembling_names(schemes, options.normalisation)):
        _logger.warning("%s", warning)
    for finding in find_early(fingerprint, plan):
        _logger.warning("%s: %s", finding.title, finding.text)


def _largest_prepared_bytes(fingerprint: Fingerprint, plan: Plan, configuration: str) -> int:
    """Estimate the memory in bytes that the preprocessing of the largest case needs."""
    planned = plan.configuration(configuration)
    voxels = (math.prod(case.shape) + math.prod(prepared_shape(case, planned)) for case in fingerprint.cases.values())
    return case_bytes(max(voxels), len(plan.dataset.channels))
