"""Draw patch positions: cases uniformly, and a share of each batch centred on foreground voxels, uniformly over the classes.

The rules are nnU-Net's: the last `batch_size * oversample_foreground` patches of a batch, rounded, are centred on a voxel of a
class drawn uniformly among those of the case; the others lie anywhere inside the image. Unlike in nnU-Net, a centred patch does
not extend beyond an image that is larger than the patch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import SupportsInt

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from configs.dataset import DatasetDescription
from trainers.augmentation.spatial import Triple
from trainers.data.cases import TrainingCase

_TRIES = 10  # attempts to find a patch with at least one voxel that is not ignored


@dataclass(frozen=True)
class Place:
    """Position of a patch: its case and first voxel (Z, Y, X), which is negative if the patch begins before the image."""

    case: str
    start: Triple


def sampled_groups(description: DatasetDescription) -> tuple[tuple[int, ...], ...]:
    """Return the groups of class indices that foreground is drawn from: each label alone, or all classes of a region."""
    return tuple(description.class_indices(name) for name in description.foreground)


@dataclass(frozen=True)
class PatchSampler:
    """Draws the patch positions of a batch."""

    cases: Mapping[str, TrainingCase]  # cases by identifier, drawn uniformly
    patch_size: Triple  # patch size (Z, Y, X) in voxels
    batch_size: int  # number of patches in a batch
    oversample_foreground: float  # share of the batch that is centred on foreground
    groups: Sequence[Sequence[int]]  # class indices of each foreground group, see `sampled_groups`
    ignore_index: int | None = None  # class index of ignored voxels; a patch of only these is drawn again
    weights: Sequence[float] | None = None  # relative frequency of each group; None draws all equally often
    probabilistic: bool = False  # whether the centre of each patch is drawn, instead of decided by its position in the batch

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self.cases)

    def draw_cases(self, random: Generator) -> list[str]:
        """Draw the cases of a batch. This comes first, so that repeating it is cheap when the cases of a failed batch are named."""
        return [self._names[index] for index in random.integers(len(self._names), size=self.batch_size)]

    def draw_place(self, random: Generator, case: str, position: int) -> Place:
        """Draw the position of a patch in its case, given its position in the batch."""
        if self._is_centred(random, position):
            centre = self._draw_foreground(random, self.cases[case])
            if centre is not None:
                return Place(case, self._around(centre, self.cases[case]))
        return self._draw_anywhere(random, case)

    def _is_centred(self, random: Generator, position: int) -> bool:
        if self.probabilistic or self.batch_size == 1:  # a batch of one cannot be divided
            return bool(random.random() < self.oversample_foreground)
        return position >= round(self.batch_size * (1 - self.oversample_foreground))

    def _draw_foreground(self, random: Generator, case: TrainingCase) -> NDArray[np.int32] | None:
        locations = case.class_locations
        weights = [1.0] * len(self.groups) if self.weights is None else self.weights
        present = [
            (members, weight)
            for members, weight in zip(self.groups, weights, strict=True)
            if weight and any(len(locations.get(member, ())) for member in members)
        ]
        if not present:
            return None
        shares = np.array([weight for _, weight in present])
        members, _ = present[random.choice(len(present), p=shares / shares.sum())]
        voxels = np.concatenate([locations[member] for member in members if member in locations])
        return voxels[random.integers(len(voxels))]

    def _draw_anywhere(self, random: Generator, case: str) -> Place:
        arrays = self.cases[case]
        for _ in range(_TRIES):
            bounds = [_bounds(size, patch) for size, patch in zip(arrays.labels.shape, self.patch_size, strict=True)]
            place = Place(case, _triple(random.integers(low, high + 1) for low, high in bounds))
            if self.ignore_index is None or bool(
                (read_labels_box(arrays, place.start, self.patch_size) != self.ignore_index).any()
            ):
                return place
        centre = self._draw_foreground(random, arrays)
        return place if centre is None else Place(case, self._around(centre, arrays))

    def _around(self, centre: NDArray[np.int32], case: TrainingCase) -> Triple:
        shape = case.labels.shape
        bounds = [_bounds(size, patch) for size, patch in zip(shape, self.patch_size, strict=True)]
        starts = (int(voxel) - patch // 2 for voxel, patch in zip(centre, self.patch_size, strict=True))
        return _triple(min(max(start, low), high) for start, (low, high) in zip(starts, bounds, strict=True))


def read_image_box(case: TrainingCase, start: Triple, size: Triple) -> NDArray[np.float32]:
    """Read a box (C, *size) of the image, padded with 0 like the sliding window."""
    inside, where = _overlap(case.image.shape[1:], start, size)
    return _padded(case.image[(slice(None), *inside)], where, size)


def read_labels_box(case: TrainingCase, start: Triple, size: Triple) -> NDArray[np.int16]:
    """Read a box (*size) of the labels, padded with background."""
    inside, where = _overlap(case.labels.shape, start, size)
    return _padded(case.labels[inside], where, size)


def read_previous_box(case: TrainingCase, start: Triple, size: Triple) -> NDArray[np.int16]:
    """Read a box (*size) of the first network's segmentation, padded with background."""
    if case.previous is None:
        raise ValueError("the case has no segmentation of a first network")
    inside, where = _overlap(case.previous.shape, start, size)
    return _padded(case.previous[inside], where, size)


def _bounds(size: int, patch: int) -> tuple[int, int]:
    """Return the lowest and highest first voxel of a patch along an axis; a patch longer than the axis is centred on it."""
    if size < patch:
        before = (patch - size) // 2
        return -before, -before
    return 0, size - patch


def _overlap(shape: Sequence[int], start: Triple, size: Triple) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the slices of the part of a box that lies inside an array, in the array and in the box."""
    inside, where = [], []
    for length, first, extent in zip(shape, start, size, strict=True):
        low, high = min(max(first, 0), length), max(min(first + extent, length), 0)
        inside.append(slice(low, max(low, high)))
        where.append(slice(low - first, max(low, high) - first))
    return tuple(inside), tuple(where)


def _padded(content: NDArray, where: tuple[slice, ...], size: Triple) -> NDArray:
    shape = (*content.shape[:-3], *size)
    if content.shape == shape:
        return np.ascontiguousarray(content)
    box = np.zeros(shape, content.dtype)
    z, y, x = where
    box[..., z, y, x] = content
    return box


def _triple(values: Iterable[SupportsInt]) -> Triple:
    z, y, x = (int(value) for value in values)
    return z, y, x
