"""The data of a case in the viewer: few enough voxels for a page, in bytes, compressed.

The script of the page (`templates/planes.js`) unpacks them in the browser, so that the page fetches nothing.
"""

import base64
import gzip
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.dataset import DatasetDescription

MOST = 2_000_000  # bytes of all images of a page, before they are compressed
_SHOWN = (0.1, 99.9)  # percentiles between which grey values are kept
_WINDOW = (0.5, 99.5)  # percentiles that are black and white at first


@dataclass(frozen=True)
class Layer:
    """A segmentation over the image.

    Attributes:
        name: `reference` or `prediction`.
        labels: class indices (Z, Y, X) on the image's grid.
        is_filled: whether its labels are filled; else their outlines are drawn.
    """

    name: str
    labels: NDArray[np.int16]
    is_filled: bool


@dataclass(frozen=True)
class PackedPlanes:
    """What the template needs of a case."""

    title: str  # name of the case
    shape: tuple[int, int, int]  # voxels (Z, Y, X) in the page
    layers: tuple[str, ...]  # names of the segmentations
    is_colour: bool  # whether the image has colours, which have no window
    data: str  # everything else, as JSON for the script


def pack_planes(
    title: str,
    image: NDArray,
    layers: Sequence[Layer],
    spacing: Sequence[float],
    description: DatasetDescription,
    colours: Sequence[str],
    most: int = MOST,
) -> PackedPlanes:
    """Return the data of a case. Every second, third ... voxel along an axis is taken where it has more than `most` bytes.

    Args:
        title: name of the case.
        image: one channel (Z, Y, X), or colours (Z, Y, X, 3) uint8; Y runs from front to back.
        layers: segmentations on the same grid.
        spacing: spacing (Z, Y, X) in mm.
        description: dataset description that names the labels.
        colours: a colour for each foreground label.
        most: bytes of the image in the page at most, before they are compressed.
    """
    steps = choose_steps(image.shape[:3], spacing, most // (3 if image.ndim == 4 else 1))
    every = tuple(slice(None, None, step) for step in steps)
    thinned, known = image[every], len(description.values)
    low, high = _ends(thinned, _SHOWN)
    window = _ends(thinned, _WINDOW)
    shown = [np.where(layer.labels[every] < known, layer.labels[every], 0) for layer in layers]
    content = {
        "shape": thinned.shape[:3],
        "stored": image.shape[:3],
        "size": [thinned.shape[axis] * steps[axis] * spacing[axis] for axis in range(3)],
        "steps": steps,
        "range": (low, high),
        "window": (max(window[0], low), min(window[1], high)),
        "start": _start(shown, thinned.shape[:3]),
        "image": _packed(thinned if image.ndim == 4 else _in_bytes(thinned, low, high)),
        "layers": [
            {"name": layer.name, "filled": layer.is_filled, "labels": _packed(labels.astype("<u2"))}
            for layer, labels in zip(layers, shown, strict=True)
        ],
        "labels": legend(description, colours),
    }
    names = tuple(layer.name for layer in layers)
    shape = (thinned.shape[0], thinned.shape[1], thinned.shape[2])
    return PackedPlanes(title, shape, names, image.ndim == 4, json.dumps(content, separators=(",", ":")))


def choose_steps(shape: Sequence[int], spacing: Sequence[float], most: int) -> tuple[int, int, int]:
    """Return the step along each axis (Z, Y, X) that leaves at most `most` voxels, made coarser where voxels are finest."""
    steps = [1, 1, 1]
    while math.prod(math.ceil(size / step) for size, step in zip(shape, steps, strict=True)) > most:
        longer = [axis for axis in range(3) if shape[axis] > steps[axis]]
        steps[min(longer, key=lambda axis: steps[axis] * spacing[axis])] += 1
    return steps[0], steps[1], steps[2]


def legend(description: DatasetDescription, colours: Sequence[str]) -> Mapping[int, tuple[str, str]]:
    """Return the name and colour of each class index above 0. A voxel in several regions has the colour of the smallest of them."""
    members = {name: description.class_indices(name) for name in description.foreground}
    of_label = dict(zip(description.foreground, colours, strict=True))
    found: dict[int, tuple[str, str]] = {}
    for index in range(1, len(description.values)):
        names = [name for name, indices in members.items() if index in indices]
        if names:
            found[index] = ", ".join(names), of_label[min(names, key=lambda name: len(members[name]))]
    return found


def _ends(image: NDArray, percentiles: tuple[float, float]) -> tuple[float, float]:
    low, high = (float(end) for end in np.percentile(image, percentiles))
    return low, high if high > low else low + 1


def _in_bytes(image: NDArray, low: float, high: float) -> NDArray[np.uint8]:
    shares = np.clip(np.nan_to_num((image - low) / (high - low)), 0, 1)
    return np.rint(255 * shares).astype(np.uint8)


def _start(layers: Sequence[NDArray], shape: tuple[int, ...]) -> list[int]:
    """The labelled voxel nearest to the mean position of all labelled ones, or the middle where there is none."""
    occupied = np.argwhere(np.any([labels > 0 for labels in layers], axis=0))
    if not len(occupied):
        return [size // 2 for size in shape]
    nearest = np.square(occupied - occupied.mean(axis=0)).sum(axis=1).argmin()
    return [int(index) for index in occupied[nearest]]


def _packed(array: NDArray) -> str:
    return base64.b64encode(gzip.compress(np.ascontiguousarray(array).tobytes(), mtime=0)).decode("ascii")
