"""Convert label values of files to class indices: a value's index is its position in `DatasetDescription.values`."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from configs.dataset import DatasetDescription
from configs.errors import Fault, InputError, listed
from preprocessing.geometry.cropping import PART, parts

_LARGEST_TABLE = 2**20  # largest label value for which a lookup table is used


def unknown_values(labels: NDArray[np.integer], description: DatasetDescription) -> list[int]:
    """Return the values in the array that the description does not name, ascending."""
    return unnamed_values(present_values(labels), description)


def unnamed_values(present: Iterable[int], description: DatasetDescription) -> list[int]:
    """Return those of the values that the description does not name."""
    known = {*description.values, description.ignore_value}
    return [value for value in present if value not in known]


def present_values(labels: NDArray[np.integer]) -> list[int]:
    """Return the values in the array, ascending."""
    flat = np.ravel(labels)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1  # labels come in runs, and a new value can only begin a run
    return [int(value) for value in np.unique(np.append(flat[changes], flat[:1]))]


def to_class_indices(
    labels: NDArray[np.integer], description: DatasetDescription, part: int = PART, annotated: Sequence[str] | None = None
) -> NDArray[np.int16]:
    """Return the class indices (int16) of label values of any shape, `part` at a time; ignored voxels get `description.ignore_index`.

    Where only some labels were `annotated`, the background may be any of the others, and gets `description.partial_index`.

    Raises:
        InputError: the description does not name some values.
    """
    indices = _class_indices(labels, description, part)
    if annotated is not None:
        indices[indices == 0] = description.partial_index(annotated)
    return indices


def labelled(indices: NDArray[np.int16], description: DatasetDescription) -> NDArray[np.bool_]:
    """Return the mask of voxels with a label: neither background nor ignored, nor of a case in which a label may be missing."""
    return (indices > 0) & (indices < len(description.values))


def _class_indices(labels: NDArray[np.integer], description: DatasetDescription, part: int) -> NDArray[np.int16]:
    unknown = unknown_values(labels, description)
    if unknown:
        raise InputError(unknown_values_fault("labels", unknown, description))
    values, indices = _table(description)
    if np.array_equal(values, indices):
        return labels.astype(np.int16)
    if values.max() < _LARGEST_TABLE:
        table = np.zeros(values.max() + 1, dtype=np.int16)
        table[values] = indices
        return _looked_up(labels, lambda found: table[found], part)
    order = np.argsort(values)
    return _looked_up(labels, lambda found: indices[order][np.searchsorted(values[order], found.astype(np.int64))], part)


def unknown_values_fault(where: str, unknown: list[int], description: DatasetDescription) -> Fault:
    """Return the fault of a label file with values that `dataset.json` does not name."""
    named = ", ".join(map(str, sorted({*description.values, *_ignored(description)})))
    plural = "s" if len(unknown) > 1 else ""
    return Fault(
        where,
        f"`dataset.json` does not name the label value{plural} {listed(unknown)} (it names {named})",
        "Name the value under `labels` in `dataset.json`, or fix the label file",
    )


def _looked_up(
    labels: NDArray[np.integer], look_up: Callable[[NDArray[np.integer]], NDArray[np.int16]], part: int
) -> NDArray[np.int16]:
    """Look up part by part, since NumPy's indices take eight bytes per voxel."""
    flat = labels.reshape(-1)
    indices = np.empty(flat.shape, dtype=np.int16)
    for place in parts(len(flat), part):
        indices[place] = look_up(flat[place])
    return indices.reshape(labels.shape)


def _table(description: DatasetDescription) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    values = [*description.values, *_ignored(description)]
    return np.array(values, dtype=np.int64), np.arange(len(values), dtype=np.int16)


def _ignored(description: DatasetDescription) -> list[int]:
    return [] if description.ignore_value is None else [description.ignore_value]
