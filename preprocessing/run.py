"""Preprocess all cases of a dataset in parallel; a rerun processes only missing or stale cases."""

import hashlib
import json
import logging
import math
from functools import partial
from pathlib import Path

from configs.files import delete_partial_files
from configs.fingerprint import Shape
from configs.plan import Plan, Resampling
from configs.progress import Progress, Silent
from preprocessing.dataset.case import load_case
from preprocessing.dataset.raw import CaseFiles, RawDataset
from preprocessing.formats.images import companions
from preprocessing.locations import find_class_locations
from preprocessing.parallel.for_each_case import for_each_case
from preprocessing.pipeline import Preprocessed, preprocess
from preprocessing.store import CaseStore

CODE_VERSION = 3  # incremented when equal inputs and plans give different arrays
_KEY_SETTINGS = {"spacing", "normalisation", "separate_axis_ratio", "slice_axis"}
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
        InputError: the plan lacks the configuration, or files of some cases cannot be used; all of them are listed.
        RuntimeError: some cases failed; all of them are listed with reasons, the others are complete.
    """
    plan.configuration(configuration)
    store = CaseStore(folder)
    delete_partial_files(folder)
    for identifier in set(store.identifiers()) - set(dataset.cases):
        store.remove(identifier)
    make = partial(_preprocess_case, plan=plan, configuration=configuration, folder=Path(folder), overwrite=overwrite)
    made = dict(for_each_case(make, dataset.cases, jobs, progress or Silent(), f"Preprocessing {configuration}", scheduler))
    count = sum(made.values())
    _logger.info("%s: %d cases preprocessed, %d were up to date", configuration, count, len(made) - count)
    return store


def changed_cases(dataset: RawDataset, plan: Plan, plan_file: Path, configuration: str, folder: Path) -> list[str]:
    """Return the sorted cases that are not prepared in `folder` as they are now: new ones, lost ones, and those with other content.

    Files that the system has not touched since they were prepared are not read.
    """
    store = CaseStore(folder)
    prepared, present = set(store.identifiers()), dataset.cases
    changed = prepared ^ set(present)
    for identifier in prepared & set(present):
        files = present[identifier]
        if _is_touched(store.time_of(identifier), *_paths_of(files), plan_file):
            key = staleness_key(files, plan, configuration)
            changed |= set() if store.is_current(identifier, key) else {identifier}
    return sorted(changed)


def _is_touched(time: float, *paths: Path) -> bool:
    """Return whether content or name of one of the files may have changed since a time; copies may keep older dates of their content."""
    return any(not path.exists() or max(path.stat().st_ctime, path.stat().st_mtime) > time for path in paths)


def staleness_key(files: CaseFiles, plan: Plan, configuration: str) -> str:
    """Return a digest of the content of a case's files and of all settings that its arrays depend on."""
    paths = _paths_of(files)
    settings = plan.configuration(configuration).model_dump(mode="json", include=_KEY_SETTINGS)
    resampling = plan.configuration(configuration).resampling
    if resampling != Resampling():  # plans of earlier versions had no other
        settings |= {"resampling": resampling.model_dump(mode="json")}
    orientation = plan.model_dump(mode="json", include={"orientation"})["orientation"]
    labels: list[object] = [plan.dataset.values, plan.dataset.ignore_value]
    labels += [] if files.annotated is None else [plan.dataset.annotated, files.annotated]
    content = json.dumps([CODE_VERSION, [_digest(path) for path in paths], settings, labels, orientation], sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


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
