"""Where each class lies, for patches that are centred on it."""

import zlib

import numpy as np
from numpy.typing import NDArray

from preprocessing.store import ClassLocations

MOST_LOCATIONS = 10_000


def find_class_locations(labels: NDArray[np.int16], identifier: str, most: int = MOST_LOCATIONS) -> ClassLocations:
    """Voxels of each class above the background, at most `most` of each, drawn at random but the same for the same case.

    Args:
        labels: (Z, Y, X) class indices.
        identifier: of the case; seeds the draw.
        most: kept voxels of each class.

    Returns:
        Class index -> (n, 3) voxels in (Z, Y, X); classes that do not occur are left out.
    """
    random = np.random.default_rng(zlib.crc32(identifier.encode()))
    foreground = np.flatnonzero(labels)
    classes = labels.reshape(-1)[foreground]
    if not classes.size:
        return {}
    order = np.argsort(classes, kind="stable")
    present, starts = np.unique(classes[order], return_index=True)
    locations: ClassLocations = {}
    for index, voxels in zip(present, np.split(foreground[order], starts[1:]), strict=True):
        if len(voxels) > most:
            voxels = np.sort(random.choice(voxels, most, replace=False))
        locations[int(index)] = np.stack(np.unravel_index(voxels, labels.shape), axis=1).astype(np.int32)
    return locations
