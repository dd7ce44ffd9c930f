"""Preprocess all cases of a dataset in parallel; a rerun processes only missing or stale cases."""

import hashlib
import json
import logging
import math
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from configs.errors import Fault, InputError, counted, listed
from configs.files import delete_partial_files
from configs.fingerprint import Shape
from configs.outputs import held
from configs.plan import ModelPlan, Plan
from configs.progress import Progress, Silent
from preprocessing.dataset.case import load_case
from preprocessing.dataset.raw import CaseFiles, RawDataset
from preprocessing.formats.images import companions
from preprocessing.locations import find_class_locations
from preprocessing.parallel.for_each_case import for_each_case
from preprocessing.pipeline import Preprocessed, preprocess
from preprocessing.store import CaseStore

CODE_VERSION = 3  # incremented when equal inputs and plans give different arrays
_KEY_SETTINGS = {"spacing", "normalisation", "separate_axis_ratio", "slice_axis", "resampling"}
_KEY_SEPARATOR = "-"
_PART_BYTES = 2**20
_logger = logging.getLogger(__name__)


def preprocess_dataset(
    dataset: RawDataset,
    plan: Plan,
    configuration: str,
    folder: Path,
    jobs: int = 1,
    progress: Progress | None = None,
    overwrite: bool = False,
    scheduler: str | None = None,
) -> CaseStore:
    """Preprocess every case of a validated dataset into a store in `folder`, and remove cases that are no longer in the dataset.

    `overwrite` also processes cases that are up to date. Workers of a Dask scheduler must have access to the dataset and `folder`.

    Raises:
        InputError: the plan lacks the configuration; another process works in the folder, or a training reads cases of it that would
            change; or files of some cases cannot be used; all of them are listed.
        RuntimeError: some cases failed; all of them are listed with reasons, the others are complete.
    """
    plan.configuration(configuration)
    folder.mkdir(parents=True, exist_ok=True)
    store = CaseStore(folder)
    with ExitStack() as stack:
        try:
            stack.enter_context(held(folder))
        except InputError:  # a training reads the cases
            if overwrite or changed_cases(dataset, plan, configuration, folder):
                raise
            return store
        delete_partial_files(folder)
        for identifier in set(store.identifiers()) - set(dataset.cases):
            store.remove(identifier)
        make = partial(_preprocess_case, plan=plan, configuration=configuration, folder=Path(folder), overwrite=overwrite)
        made = dict(for_each_case(make, dataset.cases, jobs, progress or Silent(), f"Preprocessing {configuration}", scheduler))
    count = sum(made.values())
    _logger.info("%s: %d cases preprocessed, %d were up to date", configuration, count, len(made) - count)
    return store


def changed_cases(dataset: RawDataset, plan: Plan, configuration: str, folder: Path) -> list[str]:
    """Return the sorted cases that are not prepared in `folder` as they are now: new ones, lost ones, and those with other content.

    Files that the system has not touched since they were prepared are not read.
    """
    store = CaseStore(folder)
    prepared, present = set(store.identifiers()), dataset.cases
    changed = prepared ^ set(present)
    changed |= {case for case in prepared & set(present) if not _is_current(store, case, present[case], plan, configuration)}
    return sorted(changed)


def _is_current(store: CaseStore, identifier: str, files: CaseFiles, plan: Plan, configuration: str) -> bool:
    """Return whether a prepared case is what it would be now."""
    if not _is_touched(store.time_of(identifier), *_paths_of(files)):
        with suppress(InputError):  # of a damaged file
            return _has_settings(store, identifier, plan, configuration)
    return store.is_current(identifier, staleness_key(files, plan, configuration))


def _is_touched(time: float, *paths: Path) -> bool:
    """Return whether content or name of one of the files may have changed since a time; copies may keep older dates of their content."""
    return any(not path.exists() or max(path.stat().st_ctime, path.stat().st_mtime) > time for path in paths)


def require_prepared(store: CaseStore, cases: Iterable[str], plan: ModelPlan) -> None:
    """Check that cases were prepared with the settings of a plan, which may have been made or edited later. Original files are not read.

    Raises:
        InputError: a case is not prepared, or cases were prepared with other settings.
    """
    others = [case for case in sorted(cases) if not _has_settings(store, case, plan.whole, plan.configuration_name)]
    if others:
        problem = f"another plan or an earlier version prepared {counted(len(others), 'case')} ({listed(others, 3)})"
        remedy = "Run se_plan_and_preprocess to its end, with the options that the plan was made with"
        raise InputError(Fault(str(store.folder), problem, remedy))


def _has_settings(store: CaseStore, identifier: str, plan: Plan, configuration: str) -> bool:
    """Return whether a case was prepared with the settings of a plan. Raises `InputError` if it is not prepared."""
    properties = store.read(identifier).properties
    settings, _, _ = properties.key.partition(_KEY_SEPARATOR)
    return settings == _settings_key(plan, configuration, properties.annotated)


def staleness_key(files: CaseFiles, plan: Plan, configuration: str) -> str:
    """Return a digest of all settings that a case's arrays depend on, followed by one of the content of its files."""
    content = [_digest(path) for path in _paths_of(files)]
    return _KEY_SEPARATOR.join((_settings_key(plan, configuration, files.annotated), _digest_of(content)))


def _settings_key(plan: Plan, configuration: str, annotated: tuple[str, ...] | None) -> str:
    """Return a digest of all settings that the arrays of a case depend on, whose annotated labels are given; None stands for all."""
    settings = plan.configuration(configuration).model_dump(mode="json", include=_KEY_SETTINGS)
    orientation = plan.model_dump(mode="json", include={"orientation"})["orientation"]
    labels: list[object] = [plan.dataset.values, plan.dataset.ignore_value]
    labels += [] if annotated is None else [plan.dataset.annotated, annotated]
    return _digest_of([CODE_VERSION, settings, labels, orientation])


def _digest_of(content: object) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def _paths_of(files: CaseFiles) -> list[Path]:
    """Return the paths to all files of a case."""
    named = [*files.images, *([files.labels] if files.labels else [])]
    return [path for one in named for path in (one, *companions(one))]


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while part := file.read(_PART_BYTES):
            digest.update(part)
    return digest.hexdigest()


def _preprocess_case(identifier: str, files: CaseFiles, plan: Plan, configuration: str, folder: Path, overwrite: bool) -> bool:
    """Preprocess the case unless it is up to date, and return whether this was done."""
    store, key = CaseStore(folder), staleness_key(files, plan, configuration)
    if store.is_current(identifier, key) and not overwrite:
        return False
    prepared = _prepare(identifier, files, plan, configuration)
    store.write(
        identifier,
        prepared,
        {} if prepared.labels is None else find_class_locations(prepared.labels, identifier),
        key=key,
        images=tuple(str(path.resolve()) for path in files.images),
        labels=None if files.labels is None else str(files.labels.resolve()),
        annotated=files.annotated,
        patch_size=_smallest_patch(plan, configuration),
    )
    return True


def _prepare(identifier: str, files: CaseFiles, plan: Plan, configuration: str) -> Preprocessed:
    """Load and preprocess a case; the loaded arrays are freed on return."""
    raw = load_case(identifier, files, plan.dataset)
    return preprocess(raw.image, raw.labels, raw.geometry, plan.configuration(configuration), plan.orientation)


def _smallest_patch(plan: Plan, configuration: str) -> Shape:
    """Return the smallest patch of the configuration's networks, which determines the compressed blocks."""
    patches = [network.patch_size for network in plan.configuration(configuration).networks.values()]
    return min(patches, key=math.prod, default=(64, 64, 64))
