"""Choose a typical case and cut the slices that the plan is drawn over."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.dataset import DatasetDescription
from configs.fingerprint import CaseFingerprint, Fingerprint, Spacing
from configs.plan import Plan
from preprocessing.dataset.case import load_case
from preprocessing.dataset.labels import labelled
from preprocessing.dataset.raw import RawDataset
from preprocessing.geometry.cropping import nonzero_box
from preprocessing.geometry.orientation import find_turn
from preprocessing.pages.drawn_image import drawn_image


@dataclass(frozen=True)
class Slices:
    """Three orthogonal slices of a case through one voxel."""

    case: str  # identifier of the case
    images: tuple[NDArray, ...]  # slices across the axes Z, Y and X: (Y, X), (Z, X), (Z, Y), or the same with colours (..., 3)
    labels: tuple[NDArray[np.int16], ...] | None  # class indices in the same slices, or None
    centre: tuple[float, float, float]  # mm (Z, Y, X) from the corner of the cropped image to the voxel that the slices share
    spacing: Spacing  # mm (Z, Y, X)
    extent: tuple[float, float, float]  # mm (Z, Y, X) of the cropped image


def typical_case(cases: Mapping[str, CaseFingerprint]) -> str:
    """Return the case whose extent is closest to the median extent, among those with the most labels."""
    extents = np.array([np.multiply(case.shape_after_crop, case.spacing) for case in cases.values()])
    distances = np.abs(np.log(extents / np.median(extents, axis=0))).sum(axis=1)
    held = [sum(sizes.voxels > 0 for sizes in case.labels.values()) for case in cases.values()]
    ranked = sorted(zip(held, distances, cases, strict=True), key=lambda entry: (-entry[0], entry[1], entry[2]))
    return ranked[0][2]


def load_slices(dataset: RawDataset, fingerprint: Fingerprint, plan: Plan) -> Slices:
    """Return slices of the typical case in the plan's orientation, cropped to nonzero, through the middle of the labelled voxels."""
    identifier = typical_case(fingerprint.cases)
    case = load_case(identifier, dataset.cases[identifier], plan.dataset)
    turn = find_turn(case.geometry, plan.orientation)
    image = turn.apply(case.image)
    box = nonzero_box(image)
    shown = drawn_image(box.crop(image), plan.dataset)
    shape = shown.shape[:3]
    labels = None if case.labels is None else box.crop(turn.apply(case.labels))
    z, y, x = _middle(labels, plan.dataset) or tuple(size // 2 for size in shape)
    spacing = turn.apply_geometry(case.geometry).spacing
    centre = ((z + 0.5) * spacing[0], (y + 0.5) * spacing[1], (x + 0.5) * spacing[2])
    extent = (shape[0] * spacing[0], shape[1] * spacing[1], shape[2] * spacing[2])
    return Slices(identifier, _cut(shown, z, y, x), None if labels is None else _cut(labels, z, y, x), centre, spacing, extent)


def _cut(array: NDArray, z: int, y: int, x: int) -> tuple[NDArray, ...]:
    return array[z], array[:, y], array[:, :, x]


def _middle(labels: NDArray[np.int16] | None, description: DatasetDescription) -> tuple[int, int, int] | None:
    """Return a labelled voxel near the centre of mass of all labelled voxels, or None where there is none."""
    if labels is None:
        return None
    inside = labelled(labels, description)
    across = inside.sum(axis=(1, 2))
    if not across.any():
        return None
    z = _nearest(np.flatnonzero(across), _mean_position(across))
    slice_ = inside[z]
    rows = slice_.sum(axis=1)
    y = _nearest(np.flatnonzero(rows), _mean_position(rows))
    columns = np.flatnonzero(slice_[y])
    return z, y, _nearest(columns, float(columns.mean()))


def _mean_position(counts: NDArray) -> float:
    return float(counts @ np.arange(len(counts)) / counts.sum())


def _nearest(candidates: NDArray, position: float) -> int:
    return int(candidates[np.abs(candidates - position).argmin()])


def patch_start(centre: float, size: float, extent: float) -> float:
    """Return the start in mm of a patch along an axis: centred, but moved into the image where it fits.

    All arguments are in mm. A patch larger than the image is centred on the image, as with padding.
    """
    if size >= extent:
        return (extent - size) / 2
    return min(max(centre - size / 2, 0.0), extent - size)
