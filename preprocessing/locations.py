"""Find voxels of each class, on which training patches are centred."""

import zlib

import numpy as np
from numpy.typing import NDArray

from preprocessing.geometry.cropping import PART, parts
from preprocessing.store import ClassLocations

MOST_LOCATIONS = 10_000


def find_class_locations(
    labels: NDArray[np.int16], identifier: str, most: int = MOST_LOCATIONS, part: int = PART
) -> ClassLocations:
    """Return the indices (n, 3) (Z, Y, X) of at most `most` voxels of each foreground class that occurs in class indices (Z, Y, X).

    They are drawn at random but reproducibly for each case. Memory use does not grow with the volume: the kept voxels of a class are drawn
    by rank, given their number, and then looked up `part` voxels at a time.
    """
    random = np.random.default_rng(zlib.crc32(identifier.encode()))
    flat = labels.reshape(-1)
    kept: dict[int, NDArray[np.int64]] = {}  # class -> ascending ranks of the kept voxels
    for index, count in enumerate(_counts(flat, part)):
        if index and count:
            kept[index] = np.arange(count) if count <= most else np.sort(random.choice(count, most, replace=False))
    found: dict[int, list[NDArray[np.int64]]] = {index: [] for index in kept}
    seen = dict.fromkeys(kept, 0)
    for place in parts(len(flat), part):
        for index, voxels in _by_class(flat[place]):
            before, ranks = seen[index], kept[index]
            first, last = np.searchsorted(ranks, (before, before + len(voxels)))
            found[index].append(place.start + voxels[ranks[first:last] - before])
            seen[index] += len(voxels)
    return {
        index: np.stack(np.unravel_index(np.concatenate(voxels), labels.shape), axis=1).astype(np.int32)
        for index, voxels in found.items()
    }


def _counts(flat: NDArray[np.int16], part: int) -> NDArray[np.int64]:
    """Return the number of voxels of each class index, from 0."""
    classes = int(flat.max(initial=0)) + 1
    counts = np.zeros(classes, dtype=np.int64)
    for place in parts(len(flat), part):
        counts += np.bincount(flat[place], minlength=classes)
    return counts


def _by_class(flat: NDArray[np.int16]) -> list[tuple[int, NDArray[np.int64]]]:
    """Return each foreground class of the array with its ascending positions."""
    foreground = np.flatnonzero(flat)
    classes = flat[foreground]
    if not classes.size:
        return []
    order = np.argsort(classes, kind="stable")
    present, starts = np.unique(classes[order], return_index=True)
    return list(zip(map(int, present), np.split(foreground[order], starts[1:]), strict=True))
