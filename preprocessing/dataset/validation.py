"""Find every fault of a dataset at once, each with its case, the broken rule, the value received and the remedy."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from configs.dataset import DatasetDescription, are_colours
from configs.errors import Fault, InputError, raise_faults
from configs.progress import Progress, Silent
from preprocessing.dataset.case import Case
from preprocessing.dataset.labels import labelled, present_values, to_class_indices, unknown_values_fault, unnamed_values
from preprocessing.dataset.raw import CaseFiles, RawDataset
from preprocessing.formats.images import doubts, read_header, read_image, read_labels, read_volumes
from preprocessing.geometry.affine import Geometry
from preprocessing.geometry.cropping import nonzero_box
from preprocessing.geometry.same_grid import geometry_faults
from preprocessing.parallel.for_each_case import for_each_case
from preprocessing.parallel.memory import case_bytes

T = TypeVar("T")


@dataclass
class CaseReport(Generic[T]):
    """Findings in one case: faults, warnings, a digest of its image, and the measurement if it has no faults."""

    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    digest: str | None = None
    measured: T | None = None


def examine(
    dataset: RawDataset,
    measure: Callable[[Case], T],
    jobs: int = 1,
    progress: Progress | None = None,
    scheduler: str | None = None,
) -> tuple[list[Fault], dict[str, T]]:
    """Check every case, and measure it while it is in memory, in one pass over the data.

    `measure` is called with each case that has no faults, and must be picklable. The workers of a Dask scheduler must have access to the
    dataset.

    Returns:
        Warnings, and the measurements by case in the dataset's order.

    Raises:
        InputError: there are faults; all of them are listed.
    """
    inspect = partial(_inspect, description=dataset.description, measure=measure)
    found = dict(for_each_case(inspect, dataset.cases, jobs, progress or Silent(), "Validating", scheduler))
    reports = {identifier: found[identifier] for identifier in dataset.cases}
    faults = [fault for report in reports.values() for fault in report.faults]
    raise_faults([*dataset.faults, *faults, *_duplicates(reports)])
    warnings = [warning for report in reports.values() for warning in report.warnings]
    return warnings, {identifier: cast(T, report.measured) for identifier, report in reports.items()}


def largest_case_bytes(dataset: RawDataset) -> int:
    """Estimate the memory in bytes to examine the largest case, from headers; unreadable files are left to `examine`."""
    sizes = [0]
    for files in dataset.cases.values():
        with suppress(InputError):
            volumes, geometry = read_header(files.images[0])
            sizes.append(case_bytes(math.prod(geometry.shape), volumes * len(files.images)))
    return max(sizes)


def image_faults(where: str, image: NDArray, description: DatasetDescription) -> list[Fault]:
    """Return the faults of the content of an image (C, Z, Y, X): a wrong number of channels, or values that are not finite."""
    faults = []
    if len(image) != len(description.channels):
        names = ", ".join(description.channels)
        problem = f"the image has {len(image)} channels, but `dataset.json` names {len(description.channels)} ({names})"
        remedy = (
            "Convert grey pictures to RGB"
            if len(image) == 1 and are_colours(description.channels)
            else "Store one volume per channel"
        )
        faults.append(Fault(where, problem, remedy))
    for index, channel in enumerate(image):
        broken = channel.size - int(np.isfinite(channel).sum())
        if broken:
            problem = f"{broken} of {channel.size} voxels of channel {index} are NaN or infinite"
            faults.append(Fault(where, problem, "Replace them, for example by 0, or remove the case"))
    return faults


def _inspect(identifier: str, files: CaseFiles, description: DatasetDescription, measure: Callable[[Case], T]) -> CaseReport[T]:
    where = f"case `{identifier}`"
    report: CaseReport[T] = CaseReport()
    image, geometry = _read_channels(where, files.images, report)
    labels = _read_labels(where, files, geometry, description, report)
    if image is not None:
        report.faults += image_faults(where, image, description)
        report.warnings += _constant_channels(where, image, description)
        report.digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).hexdigest()
    if image is not None and geometry is not None and not report.faults:
        indices = None if labels is None else to_class_indices(labels, description, annotated=files.annotated)
        report.warnings += [] if indices is None else _cropped_labels(where, image, labelled(indices, description))
        report.measured = measure(Case(identifier, image, indices, geometry))
    return report


def _read_channels(where: str, paths: tuple[Path, ...], report: CaseReport) -> tuple[NDArray[np.float32] | None, Geometry | None]:
    """Return the image and its geometry, or that of the first readable file; add faults and warnings to the report."""
    try:
        image, geometry = read_image(paths)
    except InputError as error:
        report.faults += [fault.within(where) for fault in error.faults]
        return None, _first_geometry(paths)
    report.warnings += [doubt.within(where) for doubt in doubts(paths)]
    return image, geometry


def _first_geometry(paths: tuple[Path, ...]) -> Geometry | None:
    for path in paths:
        with suppress(InputError):
            return read_volumes(path)[1]
    return None


def _read_labels(
    where: str, files: CaseFiles, image: Geometry | None, description: DatasetDescription, report: CaseReport
) -> NDArray[np.integer] | None:
    """Return the label values; add faults and warnings to the report."""
    path = files.labels
    if path is None:
        return None
    try:
        labels, geometry = read_labels(path)
    except InputError as error:
        report.faults += [fault.within(where) for fault in error.faults]
        return None
    if image is not None:
        report.faults += geometry_faults(where, f"the label file {path}", geometry, image)
    present = present_values(labels)
    unknown = unnamed_values(present, description)
    if unknown:
        report.faults.append(unknown_values_fault(f"{where}, {path}", unknown, description))
    elif files.annotated is not None and (others := _unannotated(present, files.annotated, description)):
        problem = (
            f"it has voxels of {', '.join(others)}, which {'is' if len(others) == 1 else 'are'} not among its annotated labels"
        )
        report.faults.append(Fault(f"{where}, {path}", problem, "Add these labels to `annotated`, or remove the voxels"))
    elif not set(present) & set(description.values[1:]):
        report.warnings.append(Fault(where, "the label file contains only background", "Check that this is intended"))
    return labels


def _unannotated(present: Sequence[int], annotated: Sequence[str], description: DatasetDescription) -> list[str]:
    return [name for name in description.foreground if description.labels[name] in present and name not in annotated]


def _constant_channels(where: str, image: NDArray[np.float32], description: DatasetDescription) -> list[Fault]:
    names = dict(enumerate(description.channels))
    return [
        Fault(where, f"channel {index} ({names.get(index, 'unnamed')}) is {channel.min():g} everywhere", "Check the image")
        for index, channel in enumerate(image)
        if channel.min() == channel.max()
    ]


def _cropped_labels(where: str, image: NDArray[np.float32], labels: NDArray[np.bool_]) -> list[Fault]:
    labelled = np.count_nonzero(labels)
    lost = labelled - np.count_nonzero(nonzero_box(image).crop(labels))
    if not lost:
        return []
    problem = f"{lost} of {labelled} labelled voxels lie in the zero margin of the image, which is cropped away"
    return [Fault(where, problem, "Check that image and labels belong together")]


def _duplicates(reports: dict[str, CaseReport[T]]) -> list[Fault]:
    groups: dict[str, list[str]] = defaultdict(list)
    for identifier, report in reports.items():
        if report.digest is not None:
            groups[report.digest].append(identifier)
    return [
        Fault(
            f"cases {', '.join(f'`{identifier}`' for identifier in same)}",
            "the images are identical",
            "Keep one of them, since duplicates leak from training into validation",
        )
        for same in groups.values()
        if len(same) > 1
    ]
