"""Preprocess all cases of a dataset, several at a time; a rerun does what is missing or stale."""

import hashlib
import json
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from configs.errors import Fault, InputError
from configs.plan import Plan
from configs.progress import Progress, Silent
from preprocessing.case import load_case
from preprocessing.dataset import CaseFiles, RawDataset
from preprocessing.locations import find_class_locations
from preprocessing.parallel import for_each_case
from preprocessing.pipeline import preprocess
from preprocessing.store import CaseStore

CODE_VERSION = 1  # raised whenever the same input and plan give other arrays
_KEY_SETTINGS = {"spacing", "normalisation", "separate_axis_ratio"}
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Work:
    """All that a worker needs besides a case's files."""

    plan: Plan
    configuration: str
    folder: Path
    overwrite: bool

    @property
    def patch_size(self) -> tuple[int, int, int]:
        """The smallest planned patch: it decides how arrays are cut into blocks."""
        patches = [network.patch_size for network in self.plan.configuration(self.configuration).networks.values()]
        return min(patches, default=(64, 64, 64))


def preprocess_dataset(
    dataset: RawDataset,
    plan: Plan,
    configuration: str,
    folder: Path,
    jobs: int = 1,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> CaseStore:
    """Write every case of the dataset into the store in `folder`; cases that are no longer in the dataset are removed.

    Args:
        dataset: validated.
        plan: spacing, normalisation and orientation.
        configuration: which of the plan's.
        folder: of the store.
        jobs: processes.
        progress: shown for each case.
        overwrite: make cases anew even if they are up to date.

    Raises:
        InputError: the plan has no such configuration, or files of some cases cannot be used (all are listed).
        RuntimeError: some cases failed; each is named with its reason, the others are done.
    """
    plan.configuration(configuration)
    store = CaseStore(folder)
    for identifier in set(store.identifiers()) - set(dataset.cases):
        store.remove(identifier)
    work = _Work(plan, configuration, Path(folder), overwrite)
    failures: dict[str, Exception] = {}
    made = 0
    for identifier, outcome in for_each_case(
        partial(_preprocess_case, work=work), dataset.cases, jobs, progress or Silent(), f"Preprocessing {configuration}"
    ):
        made += outcome is True
        if isinstance(outcome, Exception):
            failures[identifier] = outcome
    _raise_failures(failures, len(dataset.cases))
    _logger.info("%s: %d cases preprocessed, %d were up to date", configuration, made, len(dataset.cases) - made)
    return store


def staleness_key(files: CaseFiles, plan: Plan, configuration: str) -> str:
    """A digest of a case's files (names, sizes, times of change) and of all settings that its arrays depend on."""
    paths = [*files.images, *([files.labels] if files.labels else [])]
    inputs = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    settings = plan.configuration(configuration).model_dump(mode="json", include=_KEY_SETTINGS)
    labels = [plan.dataset.values, plan.dataset.ignore_value]
    content = json.dumps([CODE_VERSION, inputs, settings, labels, plan.orientation], sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def _preprocess_case(identifier: str, files: CaseFiles, work: _Work) -> bool | Exception:
    """True where the case was made, False where it was up to date, and the reason where it failed."""
    try:
        return _make_case(identifier, files, work)
    except Exception as error:  # noqa: BLE001 - one case must not stop the others; the caller raises all reasons together
        return error


def _make_case(identifier: str, files: CaseFiles, work: _Work) -> bool:
    store = CaseStore(work.folder)
    key = staleness_key(files, work.plan, work.configuration)
    if not work.overwrite and store.is_current(identifier, key):
        return False
    case = load_case(identifier, files, work.plan.dataset)
    configuration = work.plan.configuration(work.configuration)
    prepared = preprocess(case.image, case.labels, case.geometry, configuration, work.plan.orientation)
    locations = {} if prepared.labels is None else find_class_locations(prepared.labels, identifier)
    store.write(
        identifier,
        prepared,
        locations,
        key=key,
        images=tuple(str(path.resolve()) for path in files.images),
        labels=None if files.labels is None else str(files.labels.resolve()),
        patch_size=work.patch_size,
    )
    return True


def _raise_failures(failures: dict[str, Exception], total: int) -> None:
    if not failures:
        return
    if all(isinstance(error, InputError) for error in failures.values()):
        faults = [
            Fault(f"case `{identifier}`, {fault.where}", fault.problem, fault.remedy)
            for identifier, error in failures.items()
            if isinstance(error, InputError)
            for fault in error.faults
        ]
        raise InputError(*faults)
    reasons = "; ".join(f"case `{identifier}`: {type(error).__name__}: {error}" for identifier, error in failures.items())
    remaining = f"The other {total - len(failures)} cases are done; run again to complete"
    raise RuntimeError(f"{len(failures)} of {total} cases failed: {reasons}. {remaining}") from next(iter(failures.values()))
