"""Measure the sizes of labelled structures: connected components of a case, and their robust spread over a dataset."""

import math
from collections.abc import Mapping, Sequence

import cc3d
import numpy as np
from numpy.typing import NDArray

from configs.dataset import DatasetDescription
from configs.fingerprint import CaseFingerprint, LabelSizes, SizeSpread
from preprocessing.dataset.case import Case
from preprocessing.dataset.labels import labelled
from preprocessing.geometry.cropping import PART, nonzero_box, parts

_MOST_COMPONENTS = 100
_QUANTILES = (0.1, 0.5, 0.9)
_ROUNDING = 1e-9  # tolerance for sums of weights that should equal a quantile


def label_sizes(case: Case, description: DatasetDescription) -> dict[str, LabelSizes]:
    """Return voxels, volume and connected components (26 neighbours) of every label or region of a case; {} without labels."""
    if case.labels is None:
        return {}
    if description.has_regions:
        voxels = {
            name: _component_voxels(_region(case.labels, description.class_indices(name))).get(1, ())
            for name in description.foreground
        }
    else:
        by_class = _component_voxels(_without_ignored(case.labels, description))
        voxels = {name: by_class.get(description.class_indices(name)[0], ()) for name in description.foreground}
    return {name: _sizes(components, case.geometry.voxel_volume) for name, components in voxels.items()}


def size_spreads(cases: Mapping[str, CaseFingerprint]) -> dict[str, SizeSpread]:
    """Return the spread of each label's equivalent diameter over the cases, in mm, without labels that never occur.

    The result is the wider of two spreads: that of the label's whole volume, with one vote for each case, and that of its components, which
    share the vote of their case in proportion to their volume, so that specks do not decide.
    """
    names = dict.fromkeys(name for case in cases.values() for name in case.labels)
    spreads = {}
    for name in names:
        present = [case.labels[name] for case in cases.values() if name in case.labels and case.labels[name].voxels]
        if present:
            whole = _spread([sizes.volume for sizes in present], [1.0] * len(present))
            volumes = [volume for sizes in present for volume in sizes.component_volumes]
            votes = [volume / sum(sizes.component_volumes) for sizes in present for volume in sizes.component_volumes]
            spreads[name] = max(whole, _spread(volumes, votes), key=lambda spread: spread.q90 / spread.q10)
    return spreads


def _region(labels: NDArray[np.int16], indices: Sequence[int]) -> NDArray[np.uint8]:
    """Return a mask that is 1 where the label is one of the class indices."""
    mask = np.zeros(labels.shape, dtype=bool)
    for index in indices:
        mask |= labels == index
    return mask.view(np.uint8)


def _component_voxels(labels: NDArray[np.integer], part: int = PART) -> dict[int, tuple[int, ...]]:
    """Return class index -> voxels of each of its connected components, the largest first. Counts about `part` voxels at a time."""
    labels = nonzero_box(labels[None]).crop(labels)
    components, number = cc3d.connected_components(labels, connectivity=26, return_N=True)
    if not number:
        return {}
    counts, owner = np.zeros(number + 1, dtype=np.int64), np.zeros(number + 1, dtype=labels.dtype)
    for place in parts(len(labels), max(1, part // math.prod(labels.shape[1:]))):  # planes: both arrays as they lie
        numbers = components[place].ravel()
        counts += np.bincount(numbers, minlength=number + 1)
        owner[numbers] = labels[place].ravel()
    order = np.argsort(counts[1:], kind="stable")[::-1] + 1
    found: dict[int, list[int]] = {}
    for component in order:
        found.setdefault(int(owner[component]), []).append(int(counts[component]))
    return {index: tuple(voxels) for index, voxels in found.items()}


def _without_ignored(labels: NDArray[np.int16], description: DatasetDescription) -> NDArray[np.int16]:
    if description.ignore_index is None and not description.annotated:
        return labels
    return np.where(labelled(labels, description), labels, np.int16(0))


def _sizes(components: Sequence[int], voxel_volume: float) -> LabelSizes:
    return LabelSizes(
        voxels=sum(components),
        volume=sum(components) * voxel_volume,
        component_volumes=tuple(voxels * voxel_volume for voxels in components[:_MOST_COMPONENTS]),
        components=len(components),
    )


def _spread(volumes: Sequence[float], weights: Sequence[float]) -> SizeSpread:
    """Return weighted quantiles of the diameters of balls of these volumes (mm³), without interpolation.

    Interpolation between specks and one large structure would give sizes that do not occur.
    """
    diameters = np.cbrt(6 / math.pi * np.asarray(volumes))
    order = np.argsort(diameters, kind="stable")
    reached = np.cumsum(np.asarray(weights)[order])
    positions = np.searchsorted(reached / reached[-1], np.array(_QUANTILES) - _ROUNDING)
    q10, q50, q90 = (float(value) for value in diameters[order][positions])
    return SizeSpread(q10=q10, q50=q50, q90=q90)
