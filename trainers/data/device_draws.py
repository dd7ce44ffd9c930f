"""Random draws that the loading processes make for augmentation on the device."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from trainers.augmentation.on_device import IntensityDraw, Pending
from trainers.augmentation.planned import Augmentation, PlannedAugmentation
from trainers.augmentation.spatial import Triple, source_box
from trainers.data.patches import PatchSampler, Place


@dataclass(frozen=True)
class DeviceDraw:
    """Random draw for one patch."""

    place: Place  # case and position of the patch
    matrix: NDArray[np.float64]  # linear map (3, 3) from output to source voxels, including mirroring
    intensity: IntensityDraw | None  # intensity transforms; None leaves intensities unchanged


def draw_for_device(sampler: PatchSampler, augmentation: Augmentation, random: Generator, case: str, position: int) -> DeviceDraw:
    """Draw position, spatial transform and intensity transforms of a patch, in the same order as augmentation on the CPU."""
    place = sampler.draw_place(random, case, position)
    spatial = augmentation.draw_spatial(random)
    matrix = np.eye(3) if spatial.matrix is None else spatial.matrix
    flips = np.diag([-1.0 if axis in spatial.mirrored else 1.0 for axis in range(3)])
    channels = sampler.cases[case].image.shape[0]
    intensity = augmentation.draw_intensity(random, channels) if isinstance(augmentation, PlannedAugmentation) else None
    return DeviceDraw(place, matrix @ flips, intensity)


def gather_draws(
    draws: Sequence[DeviceDraw], patch_size: Triple, augmentation: Augmentation
) -> tuple[Pending, list[Place], Triple]:
    """Return the augmentation pending for a batch, the start of the box around each patch, and the common size of the boxes."""
    boxes = [source_box(draw.place.start, patch_size, draw.matrix) for draw in draws]
    z, y, x = (max(size[axis] for _, size in boxes) for axis in range(3))
    starts = np.array([draw.place.start for draw in draws]) - np.array([start for start, _ in boxes])
    intensity = tuple(draw.intensity for draw in draws if draw.intensity is not None)
    planned = augmentation if isinstance(augmentation, PlannedAugmentation) else None
    pending = Pending(
        patch_size,
        starts.astype(np.float32),
        np.stack([draw.matrix for draw in draws]).astype(np.float32),
        intensity,
        planned.across if planned else None,
        planned.masked_channels if planned else (),
    )
    return pending, [Place(draw.place.case, start) for draw, (start, _) in zip(draws, boxes, strict=True)], (z, y, x)
