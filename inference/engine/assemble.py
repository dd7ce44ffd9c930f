"""Assemble bricks of probabilities into the segmentation of an image on its original grid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.dataset import BACKGROUND, DatasetDescription
from configs.errors import Fault, raise_faults
from configs.progress import Progress
from inference.engine.capacity import Capacity
from inference.engine.ensemble import Blending, Member, blend
from inference.engine.sums import sums_of
from inference.engine.uncertainty import disagreement, entropy
from inference.sizes.quality import Quality
from preprocessing.pipeline import Trace


def decision_rule(description: DatasetDescription, roi: Sequence[str] | None = None) -> Callable[[Tensor], Tensor]:
    """Return the dataset's rule from probabilities (K, Z, Y, X) on any device to label values (Z, Y, X) int32.

    Classes: the value of the most probable class, the lower index of a tie. Regions: each region with a probability above 1/2 is painted
    with its value of `regions_class_order`, later regions over earlier ones. Labels or regions outside `roi` become background; None keeps
    all.

    Raises:
        InputError: `roi` has a name that the description lacks.
    """
    check_roi(description, roi)
    if description.has_regions:
        order = zip(description.foreground, description.regions_class_order or (), strict=True)
        return partial(_paint_regions, values=tuple(value if roi is None or name in roi else None for name, value in order))
    kept = set(description.values) if roi is None else {description.labels[name] for name in roi}
    values = [value if value in kept else 0 for value in description.values]
    return partial(_most_probable, values=torch.tensor(values, dtype=torch.int32))


def check_roi(description: DatasetDescription, roi: Sequence[str] | None) -> None:
    """Raise `InputError` that lists the names which are not labels of the dataset."""
    raise_faults(
        Fault(f"label `{name}`", "the model does not predict this label", f"Choose among {', '.join(description.foreground)}")
        for name in roi or ()
        if name not in description.foreground and name != BACKGROUND
    )


def _most_probable(probabilities: Tensor, values: Tensor) -> Tensor:
    winner = probabilities.max(0).indices  # the first of a tie; argmax takes several times as long
    return values.to(probabilities.device, non_blocking=True)[winner]


def _paint_regions(probabilities: Tensor, values: tuple[int | None, ...]) -> Tensor:
    labels = torch.zeros(probabilities.shape[1:], dtype=torch.int32, device=probabilities.device)
    for probability, value in zip(probabilities, values, strict=True):
        if value is not None:
            labels[probability > 0.5] = value
    return labels


@dataclass(frozen=True)
class Wanted:
    """Optional outputs besides the labels.

    Attributes:
        probabilities: probabilities of each class or region on the image's grid, which take K * Z * Y * X float32 values.
        uncertainty: entropy of the mean probabilities, and disagreement between the members.
        sums: sums that tell how sure the networks are, see `inference.engine.sums`.
        roi: labels or regions to keep; the others become background. None keeps all.
    """

    probabilities: bool = False
    uncertainty: bool = False
    sums: bool = False
    roi: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Segmentation:
    """Segmentation of one image on its original grid.

    Attributes:
        labels: label values (Z, Y, X) of the dataset, in the smallest sufficient type of uint8, int16 and int32.
        probabilities: probabilities (K, Z, Y, X) float32 of classes or regions, if requested.
        entropy: entropy (Z, Y, X) float32 of the mean probabilities in bits, if requested.
        disagreement: mutual information of the members (Z, Y, X) float32 in bits, if requested.
        sums: sums of `inference.engine.sums` (3, labels), if requested.
        quality: expected quality, where the model is calibrated; see `inference.sizes`.
    """

    labels: NDArray[np.integer]
    probabilities: NDArray[np.float32] | None = None
    entropy: NDArray[np.float32] | None = None
    disagreement: NDArray[np.float32] | None = None
    sums: Tensor | None = None
    quality: Quality | None = None


_LABEL_TYPES = (torch.uint8, torch.int16, torch.int32)


def collect(
    members: Sequence[Member],
    trace: Trace,
    description: DatasetDescription,
    wanted: Wanted,
    how: Blending,
    capacity: Capacity,
    progress: Progress | None = None,
) -> Segmentation:
    """Average the members brick by brick, and apply the dataset's rule to each brick. Members predict on the cropped grid of the trace.

    Raises:
        InputError: `wanted.roi` has a name that the dataset lacks.
    """
    shape, classes, device = trace.box.shape, description.output_channels, capacity.volumes_device
    highest = max(description.values)
    kind = next((kind for kind in _LABEL_TYPES if highest <= torch.iinfo(kind).max), torch.int64)
    labels = torch.empty(shape, dtype=kind, device=device)
    kept = torch.empty((classes, *shape)) if wanted.probabilities else None
    maps = [torch.empty(shape, device=device) for _ in range(2)] if wanted.uncertainty else []
    how, decide = replace(how, entropies=wanted.uncertainty), decision_rule(description, wanted.roi)
    sums = torch.zeros((3, len(description.foreground)), dtype=torch.float64, device=device) if wanted.sums else None
    for brick in blend(members, shape, classes, how, capacity, progress):
        labels[brick.place] = decide(brick.probabilities).to(kind)
        if sums is not None:
            sums += sums_of(brick.probabilities, how.regions)
        if kept is not None:
            kept[(slice(None), *brick.place)] = brick.probabilities.cpu()
        if brick.member_entropy is not None:
            maps[0][brick.place] = entropy(brick.probabilities, how.regions)
            maps[1][brick.place] = disagreement(maps[0][brick.place], brick.member_entropy)
    uncertain, disagreeing = (restore(volume, trace) for volume in maps) if maps else (None, None)
    return Segmentation(
        labels=restore(labels, trace),
        probabilities=None if kept is None else _restore_probabilities(kept, trace, description),
        entropy=uncertain,
        disagreement=disagreeing,
        sums=sums,
    )


def restore(volume: Tensor, trace: Trace) -> NDArray:
    """Bring a volume (..., Z, Y, X) from the cropped grid to the grid of the stored image; 0 outside the crop."""
    content = volume.cpu().numpy()
    turned = [trace.stored_shape[axis] for axis in trace.orientation.axes]
    if list(content.shape[-3:]) != turned:
        content = trace.box.paste(content, (turned[0], turned[1], turned[2]))
    return np.ascontiguousarray(trace.orientation.invert(content))


def _restore_probabilities(probabilities: Tensor, trace: Trace, description: DatasetDescription) -> NDArray[np.float32]:
    """Restore probabilities; outside the crop, background has probability 1."""
    whole = restore(probabilities, trace)
    if not description.has_regions and prod(trace.box.shape) < prod(trace.stored_shape):
        inside = torch.ones(trace.box.shape, dtype=torch.bool)
        whole[0][~restore(inside, trace)] = 1
    return whole
