"""From bricks of probabilities to what is known of every voxel of the image as stored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.dataset import DatasetDescription
from configs.progress import Progress
from inference.capacity import Capacity
from inference.decision import decision_rule
from inference.ensemble import Blending, Member, blend
from inference.uncertainty import disagreement, entropy
from preprocessing.pipeline import Trace


@dataclass(frozen=True)
class Wanted:
    """What is wanted besides the labels.

    Attributes:
        probabilities: of each class or region on the image's grid, which takes their number times the image in float32.
        uncertainty: entropy of the mean, and disagreement between the members.
        roi: names of the labels to be kept; the others become background. None keeps all.
    """

    probabilities: bool = False
    uncertainty: bool = False
    roi: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Segmentation:
    """The answer for one image, on the image's own grid.

    Attributes:
        labels: (Z, Y, X) label values as the dataset names them, of the smallest fitting type among uint8, int16, int32.
        probabilities: (K, Z, Y, X) float32 of classes or regions, where they were asked for.
        entropy: (Z, Y, X) float32, of the mean probabilities in bits, where it was asked for.
        disagreement: (Z, Y, X) float32, mutual information of the members in bits, where it was asked for.
    """

    labels: NDArray[np.integer]
    probabilities: NDArray[np.float32] | None = None
    entropy: NDArray[np.float32] | None = None
    disagreement: NDArray[np.float32] | None = None


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
    """Average the members brick by brick and decide there.

    Args:
        members: their target is the cropped grid of the trace.
        trace: of the image.
        description: names and values.
        wanted: besides the labels.
        how: members are averaged.
        capacity: of the device.
        progress: shows the tiles done.

    Raises:
        InputError: a label in the region of interest that the dataset does not have.
    """
    shape, classes, device = trace.box.shape, description.output_channels, capacity.device
    highest = max(description.values)
    kind = next((kind for kind in _LABEL_TYPES if highest <= torch.iinfo(kind).max), torch.int64)
    labels = torch.empty(shape, dtype=kind, device=device)
    kept = torch.empty((classes, *shape)) if wanted.probabilities else None
    maps = [torch.empty(shape, device=device) for _ in range(2)] if wanted.uncertainty else []
    how, decide = replace(how, entropies=wanted.uncertainty), decision_rule(description, wanted.roi)
    for brick in blend(members, shape, classes, how, capacity, progress):
        labels[brick.place] = decide(brick.probabilities).to(kind)
        if kept is not None:
            kept[(slice(None), *brick.place)] = brick.probabilities.cpu()
        if brick.member_entropy is not None:
            maps[0][brick.place] = entropy(brick.probabilities, how.regions)
            maps[1][brick.place] = disagreement(maps[0][brick.place], brick.member_entropy)
    return Segmentation(
        restore(labels, trace),
        None if kept is None else _restore_probabilities(kept, trace, description),
        *(restore(volume, trace) for volume in maps),
    )


def restore(volume: Tensor, trace: Trace) -> NDArray:
    """A volume (..., Z, Y, X) on the cropped grid brought to the image as stored; 0 outside the crop."""
    content = volume.cpu().numpy()
    turned = [trace.stored_shape[axis] for axis in trace.orientation.axes]
    if list(content.shape[-3:]) != turned:
        content = trace.box.paste(content, (turned[0], turned[1], turned[2]))
    return np.ascontiguousarray(trace.orientation.invert(content))


def _restore_probabilities(probabilities: Tensor, trace: Trace, description: DatasetDescription) -> NDArray[np.float32]:
    """Background is certain outside the crop."""
    whole = restore(probabilities, trace)
    if not description.has_regions and prod(trace.box.shape) < prod(trace.stored_shape):
        inside = torch.ones(trace.box.shape, dtype=torch.bool)
        whole[0][~restore(inside, trace)] = 1
    return whole
